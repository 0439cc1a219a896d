"""Every committed seed through its target: what was found once is never found again."""

from contextlib import suppress

import pytest

from edge_sdk.base import EdgeError
from edge_sdk.delta.records import KIND_TABLE
from tests.fuzz import delta_targets
from tests.fuzz.examples import SEEDS
from tests.fuzz.targets import TARGETS, seeds_of

# What is wrong on purpose, or was found by a fuzzer: each ends in a typed error. All else is valid.
REFUSED = {
    "npz": {"no-array", "seek-before-start"},
    "npz_member": {"no-token"},
    "answer": {"empty-huge", "failure", "new-slot"},
}


@pytest.mark.parametrize("name", TARGETS)
def test_each_seed_ends_in_a_typed_error_or_holds(name: str) -> None:
    """No seed raises anything but an EdgeError, what a target promises holds for each, and none
    has grown stale with a change of the format: the fuzzer would begin in the dark."""
    seeds, taken = seeds_of(name), set()
    for seed in seeds:
        with suppress(EdgeError):
            TARGETS[name](seed.read_bytes())
            taken.add(seed.name)
    assert {seed.name for seed in seeds} - taken == REFUSED.get(name, set())
    assert taken


def test_each_folder_of_seeds_has_a_target() -> None:
    """No seeds lie around that nothing reads; those of the kernel are for ``.ci/fuzz-kernel``."""
    assert {path.name for path in SEEDS.iterdir()} == {*TARGETS, "examples", "kernel"}


def test_seeds_of_the_decoder_hold_every_kind_of_record() -> None:
    """The seeds that frame records hold tables and every method that writes bytes."""
    kinds = set()
    for seed in seeds_of("records"):
        kinds |= {kind for kind, _ in delta_targets._records(seed.read_bytes()[1:])}
    assert {1, 2, 3, 4, 5, KIND_TABLE} <= kinds
