"""A run: what it keeps, and what becomes of a part that fails."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rows import Row, anchor, row
from benchmarks.runtime import bench


def figure(identity: str) -> Row:
    return row(identity, "what", [1.0, 2.0], "us", "<=", anchor=anchor("beside", "1", [3.0]))


def test_a_part_that_fails_does_not_take_the_others_along(tmp_path: Path) -> None:
    """Its name and error are told, and what others measured is kept."""

    def fails(_folder: Path, *, rounds: int) -> list[Row]:
        raise RuntimeError(f"no server in {rounds} rounds")

    def works(_folder: Path, *, rounds: int) -> list[Row]:
        return [figure(f"rounds.{rounds}")]

    kept = bench.Kept(tmp_path / "kept.json", resume=False)
    failed = bench.measure({"first": fails, "second": works}, kept, rounds=3)
    assert failed == ["first: no server in 3 rounds"]
    assert kept.rows() == [figure("rounds.3")]


def test_a_run_goes_on_where_it_was_cut_short(tmp_path: Path) -> None:
    """With --resume what is kept is not measured again; without, everything is."""
    bench.Kept(tmp_path / "kept.json", resume=False).put("first", [figure("kept")])
    again = bench.Kept(tmp_path / "kept.json", resume=True)

    def never(_folder: Path, *, rounds: int) -> list[Row]:
        raise AssertionError(rounds)

    assert bench.measure({"first": never}, again, rounds=1) == []
    assert again.rows() == [figure("kept")]
    assert bench.Kept(tmp_path / "kept.json", resume=False).rows() == []


def test_the_sources_have_one_hash() -> None:
    """The same sources, the same name of what is kept."""
    assert bench.sources_hash() == bench.sources_hash()


def test_a_part_is_tried_twice(tmp_path: Path) -> None:
    """What failed once by chance is measured after all."""
    tries = iter([OSError("address in use"), None])

    def flaky(_folder: Path, *, rounds: int) -> list[Row]:
        problem = next(tries)
        if problem is not None:
            raise problem
        return [figure(f"rounds.{rounds}")]

    kept = bench.Kept(tmp_path / "kept.json", resume=False)
    assert bench.measure({"first": flaky}, kept, rounds=2) == []
    assert kept.rows() == [figure("rounds.2")]
