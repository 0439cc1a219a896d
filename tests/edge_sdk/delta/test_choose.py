"""Choosing by size, with what may be used."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.choose import Chooser
from edge_sdk.delta.files import open_tree
from edge_sdk.delta.numeric import kind_of
from tests.support.deltas import place, tuned, weights

ALL = {1, 2, 3, 4, 5}
BEFORE = weights("float32", 50_000, 1)
AFTER = tuned(BEFORE, 2).tobytes()
TEXT = "\n".join(f"a line of text {n * n}" for n in range(2000)).encode()


@contextmanager
def chooser(root: Path, source: bytes, methods: set[int]) -> Iterator[Chooser]:
    (root / "source").write_bytes(source)
    with open_tree(root / "source") as sources:
        yield Chooser(methods, sources)


def aligned(source_start: int = 0) -> AlignedRange:
    return AlignedRange(
        start=0,
        end=len(AFTER),
        source_file=0,
        source_start=source_start,
        kind=kind_of("float32"),
    )


@pytest.mark.parametrize(("methods", "name"), [(ALL, "residual"), ({2, 5}, "planes")])
def test_numbers_are_coded_as_may_be(tmp_path: Path, methods: set[int], name: str) -> None:
    """The residual names the table that it needs; planes need none."""
    with chooser(tmp_path, BEFORE.tobytes(), methods) as choose:
        found = choose.choose(place(len(AFTER)), AFTER, aligned(), None)
    assert found is not None
    assert found.method.name == name
    assert found.table == (0 if name == "residual" else None)


def test_without_methods_for_numbers_there_is_no_record_of_them(tmp_path: Path) -> None:
    """They are bytes like others then."""
    with chooser(tmp_path, BEFORE.tobytes(), {1, 2, 3}) as choose:
        assert choose.choose(place(len(AFTER)), AFTER, aligned(), None) is None


def test_numbers_without_likeness_are_bytes(tmp_path: Path) -> None:
    """Differences to something else are larger than the bytes compressed: no record of numbers."""
    noise = np.random.default_rng(1).bytes(len(AFTER))
    sparse = bytes(len(AFTER) - 4000) + AFTER[:4000]
    with chooser(tmp_path, noise, ALL) as choose:
        assert choose.choose(place(len(sparse)), sparse, aligned(), None) is None


def test_a_range_past_the_source_predicts_nothing(tmp_path: Path) -> None:
    """A source that became shorter leaves the numbers alone."""
    with chooser(tmp_path, BEFORE.tobytes(), ALL) as choose:
        found = choose.choose(place(len(AFTER)), AFTER, aligned(4), None)
    assert found is not None
    assert found.method.name == "planes"


@pytest.mark.parametrize("near", [(0, 0), (0, 10**9), None])
def test_text_is_no_numbers(tmp_path: Path, near: tuple[int, int] | None) -> None:
    """Wherever it is looked for, a sample says so."""
    edited = TEXT.replace(b"text 100\n", b"text one hundred\n")
    for source in (TEXT, b""):
        with chooser(tmp_path, source, ALL) as choose:
            assert choose.choose(place(len(edited)), edited, None, near) is None


def test_unknown_numbers_are_recognised_by_a_sample(tmp_path: Path) -> None:
    """Elements at any offset of the target file, aligned to its multiples of eight."""
    source, target = b"12345678" + BEFORE.tobytes(), AFTER
    with chooser(tmp_path, source, ALL) as choose:
        found = choose.choose(place(len(target) - 5, 5), target[5:], None, (0, 13))
        again = choose.choose(place(len(target)), target, None, (0, 8))
    assert found is not None
    assert again is not None
    assert found.method.name == again.method.name == "residual"
    assert abs(found.cost_bytes - again.cost_bytes) < 0.01 * again.cost_bytes


def test_unknown_integers_are_recognised_at_odd_offsets(tmp_path: Path) -> None:
    """Small integers in wide ones, unlike those of the source: coded alone from where they are."""
    chance = np.random.default_rng(6)
    source, target = (chance.integers(-90, 91, 40_000).astype("<i2").tobytes() for _ in range(2))
    with chooser(tmp_path, source, ALL) as choose:
        found = choose.choose(place(len(target) + 3), b"net" + target, None, (0, 0))
    assert found is not None
    assert found.method.name == "planes"
    assert found.cost_bytes < 0.5 * len(target)


def test_a_table_of_moved_offsets_is_no_numbers(tmp_path: Path) -> None:
    """Most bytes are as they were, and each of the others moved by as much: a patch says that in
    fewer bytes than any code of numbers."""
    before = np.arange(0, 400_000, 40, dtype="<u4")
    before[::3] = 7
    after = np.where(before == 7, before, before + 5376).astype("<u4")
    with chooser(tmp_path, before.tobytes(), ALL) as choose:
        found = choose.choose(place(after.nbytes), after.tobytes(), None, (0, 0))
    assert found is None
