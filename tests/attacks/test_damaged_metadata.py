"""Every subset of the cached metadata damaged in every way, in front of every attacker.

The device's marks stand beside the cache: nothing older comes in. Without them it does, for just
the subsets that are known to matter: so the marks, and no accident, are what stands in the way.
`make test` plays the small subsets; `make attacks` all 64, damaged in four ways.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.damaged_metadata import (
    ATTACKERS,
    CACHED,
    DAMAGES,
    WITHOUT_MARKS,
    Attacker,
    Matrix,
    World,
    subsets,
)

SMALLEST = [
    ("timestamp.json", "snapshot.json"),
    ("snapshot.json",),
    ("root_history/2.root.json", "snapshot.json"),
    ("root_history/2.root.json",),
    CACHED,
]


def of(attacker: Attacker, folder: Path) -> Matrix:
    return Matrix(World(attacker), folder / "trust")


def passed(
    matrix: Matrix, damage: str, among: Iterable[tuple[str, ...]], *, marks: bool
) -> list[tuple[str, ...]]:
    """The subsets that let the old artifact in."""
    return [one for one in among if matrix.installs_old(one, damage, marks=marks)]


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_nothing_older_comes_in(tmp_path: Path, attacker: Attacker) -> None:
    """Any one file gone, any two, or all of them; with whatever keys."""
    some = [one for one in subsets() if len(one) <= 2 or one == CACHED]
    assert passed(of(attacker, tmp_path), "deleted", some, marks=True) == []


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_control_without_marks(tmp_path: Path, attacker: Attacker) -> None:
    """The same device with nothing put back: the smallest subset is enough."""
    _, smallest = WITHOUT_MARKS[attacker]
    matrix = of(attacker, tmp_path)
    assert matrix.installs_old(smallest, "deleted", marks=False)
    assert not matrix.installs_old(smallest, "deleted", marks=True)


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_honest_repository_is_believed_again(tmp_path: Path, damage: str) -> None:
    """The smallest subsets and all of it: the next look mends what was damaged."""
    matrix = of("no keys", tmp_path)
    for one in SMALLEST:
        assert matrix.recovers(one, damage)


@pytest.mark.parametrize("copy", ["a", "b"])
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_one_copy_of_the_marks_is_enough(tmp_path: Path, attacker: Attacker, copy: str) -> None:
    """The whole cache is gone, and one copy of every mark with it."""
    matrix = of(attacker, tmp_path)
    names = ("1.root.json", "2.root.json", "3.root.json", "timestamp.json", "snapshot.json")
    beside = tuple(f"marks/{copy}/{name}" for name in names)
    assert not matrix.installs_old(CACHED, "zeroed", beside=beside)
    assert not matrix.installs_old(CACHED, "deleted", beside=beside)


@pytest.mark.attacks
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_full_matrix(tmp_path: Path, attacker: Attacker, damage: str) -> None:
    """All 1,536 runs of attackers."""
    assert passed(of(attacker, tmp_path), damage, subsets(), marks=True) == []


@pytest.mark.attacks
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("attacker", ATTACKERS)
def test_full_control(tmp_path: Path, attacker: Attacker, damage: str) -> None:
    """Without marks just as many subsets let the old artifact in as were measured."""
    count, smallest = WITHOUT_MARKS[attacker]
    found = passed(of(attacker, tmp_path), damage, subsets(), marks=False)
    assert len(found) == count
    assert found[0] == smallest


@pytest.mark.attacks
@pytest.mark.parametrize("damage", DAMAGES)
def test_full_recovery(tmp_path: Path, damage: str) -> None:
    """An honest repository is believed after each of the 256 damages."""
    matrix = of("no keys", tmp_path)
    assert [one for one in subsets() if not matrix.recovers(one, damage)] == []
