"""Counters of one loaded version."""

from __future__ import annotations

from device_agent.serving.statistics import Statistics


def test_phases_and_errors_are_counted() -> None:
    """Success sums its phases; only failures of the engine are errors of the version."""
    statistics = Statistics()
    statistics.succeeded(queue_ns=1, input_ns=2, infer_ns=3, output_ns=4)
    statistics.failed(whole_ns=7, engine=False)
    statistics.failed(whole_ns=8, engine=True)
    now = statistics.snapshot()
    assert (now.requests, now.errors) == (2, 1)
    assert now.ns["success"] == 10
    assert now.count["fail"] == 2
    assert now.ns["fail"] == 15
    assert now.last_ms > 0


def test_a_snapshot_does_not_move() -> None:
    """What is counted later does not change an earlier snapshot."""
    statistics = Statistics()
    before = statistics.snapshot()
    statistics.succeeded(queue_ns=1, input_ns=1, infer_ns=1, output_ns=1)
    assert before.requests == 0
    assert before.count["success"] == 0
