"""The table of targets: every line has rows, and what was not measured is not met."""

from __future__ import annotations

from benchmarks.rows import anchor, row
from benchmarks.runtime import bench, targets


def test_every_line_of_the_table_has_rows() -> None:
    """No line without a bound, and no bound of a line that is not there."""
    assert {one.line for one in targets.TARGETS} == set(targets.LINES)


def test_ids_are_stable_and_each_is_there_once() -> None:
    """An id says the benchmark it is of, and never means two things."""
    ids = [one.id for one in targets.TARGETS]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith("runtime.") for one in ids)


def test_every_target_belongs_to_a_family_that_runs() -> None:
    """A bound that no part of the benchmark measures would stay unmeasured for ever."""
    assert {one.family for one in targets.TARGETS} <= set(bench.FAMILIES)


def test_what_was_not_measured_is_a_row_that_is_not_met() -> None:
    """A missing anchor or a part that failed never counts as met, nor disappears."""
    measured = targets.target("runtime.flight.executions").row([1.0])
    free = row("runtime.other", "without a target", [1.0], "us", "<=")
    rows = targets.complete([free, measured])
    assert [one.id for one in rows] == [*(one.id for one in targets.TARGETS), "runtime.other"]
    assert [one.id for one in rows if one.met is True] == ["runtime.flight.executions"]
    assert all(one.value is None for one in rows if one.id not in {measured.id, free.id})


def test_where_the_worst_decides_one_bad_round_is_enough() -> None:
    """One error in one round is an error; a latency is the median of its rounds."""
    errors = targets.target("runtime.swap.errors")
    assert errors.row([0.0, 0.0, 1.0]).met is False
    slow = targets.target("runtime.swap.worst-over-control")
    beside = anchor("control", "", [1.0])
    assert slow.row([1.0, 2.0, 9.9, 80.0, 90.0], beside).met is True
    assert slow.row([1.0, 2.0, 10.1, 80.0, 90.0], beside).met is False
