"""Every committed seed through its target: what was found once is never found again."""

from contextlib import suppress

import pytest

from edge_sdk.base import EdgeError
from edge_sdk.delta.records import KIND_TABLE
from tests.fuzz import delta_targets
from tests.fuzz.examples import SEEDS
from tests.fuzz.targets import TARGETS, seeds_of


@pytest.mark.parametrize("name", TARGETS)
def test_each_seed_ends_in_a_typed_error_or_holds(name: str) -> None:
    """No seed raises anything but an EdgeError, and what a target promises holds for each."""
    seeds = seeds_of(name)
    assert seeds
    taken = 0
    for seed in seeds:
        with suppress(EdgeError):
            TARGETS[name](seed.read_bytes())
            taken += 1
    assert taken, "no seed is valid: the fuzzer would begin in the dark"


def test_each_folder_of_seeds_has_a_target() -> None:
    """No seeds lie around that nothing reads."""
    assert {path.name for path in SEEDS.iterdir()} == {*TARGETS, "examples"}


def test_seeds_of_the_decoder_hold_every_kind_of_record() -> None:
    """The seeds that frame records hold tables and every method that writes bytes."""
    kinds = set()
    for seed in seeds_of("records"):
        kinds |= {kind for kind, _ in delta_targets._records(seed.read_bytes()[1:])}
    assert {1, 2, 3, 4, 5, KIND_TABLE} <= kinds
