"""Counters of one loaded version."""

from __future__ import annotations

import time
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.serving.statistics import Served, Statistics
from device_agent.statistics_page import (
    Described,
    PageWriter,
    Row,
    State,
    layout,
    private_page,
    read_page,
)
from device_agent.statistics_page.histogram import ERROR_MAX, TIME_NS_MAX, of


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


def on_page() -> tuple[memoryview, PageWriter, Row]:
    words = private_page()
    page = PageWriter(words, pid=1)
    row = page.claim(
        Described(model="a/b", version="1.0.0", variant="v", engine="e", artifact=bytes(32))
    )
    assert row is not None
    return words, page, row


def test_others_read_what_was_counted() -> None:
    """Every count and time is on the page as soon as it was added, percentiles with it."""
    words, page, row = on_page()
    statistics = Statistics(row, let_go=page.let_go)
    for _ in range(10):
        statistics.succeeded(queue_ns=1000, input_ns=2000, infer_ns=3000, output_ns=4000)
    statistics.found(whole_ns=500)
    statistics.missed(own_ns=7)
    statistics.failed(whole_ns=8, engine=True)
    statistics.set_loaded(memory_bytes=9, load_ms=2.0)
    statistics.set_cache([1, 2, 3, 4, 5, 6, 7])
    statistics.set_gauges(in_flight=3)
    statistics.set_serving(True)
    (seen,) = read_page(words).models
    assert (seen.answered, seen.hits, seen.failed, seen.errors) == (10, 1, 1, 1)
    assert (seen.memory_bytes, seen.load_ns, seen.in_flight) == (9, 2_000_000, 3)
    assert (seen.cache.memory_hits, seen.cache.file_bytes) == (1, 7)
    assert seen.state is State.SERVING
    sums = {name: times.sum_ns for name, times in seen.phases.items()}
    assert sums == {
        **{"queue": 10_000, "input": 20_000, "compute": 30_000, "output": 40_000},
        "whole": 100_500,
    }
    assert {name: times.count for name, times in seen.phases.items()} == {
        **dict.fromkeys(("queue", "input", "compute", "output"), 10),
        "whole": 11,
    }
    assert seen.phases["compute"].percentile_ns(0.5) == pytest.approx(3000, rel=ERROR_MAX)
    statistics.close()
    statistics.close()
    assert read_page(words).models[0].state is State.RETIRED


def test_a_load_counts_from_its_own_begin() -> None:
    """A version loaded again says only what it did since; its page says all of it."""
    words, _, row = on_page()
    Statistics(row).succeeded(queue_ns=1, input_ns=1, infer_ns=1, output_ns=1)
    again = Statistics(row)
    assert again.snapshot() == Served()
    again.failed(whole_ns=1, engine=True)
    assert (again.snapshot().requests, again.snapshot().errors) == (1, 1)
    assert read_page(words).models[0].answered == 1


def test_runs_of_several_requests_are_counted_once() -> None:
    """Requests count each for themselves, the run that they shared once, by its size."""
    words, _, row = on_page()
    statistics = Statistics(row)
    for size, leads in ((4, True), (4, False), (4, False), (4, False), (1, True), (100, True)):
        statistics.succeeded(
            queue_ns=1, input_ns=2, infer_ns=3, output_ns=4, batch_size=size, leads=leads
        )
    now = statistics.snapshot()
    assert now.count["compute_infer"] == 6
    assert now.ns["compute_infer"] == 18
    assert now.executions == 3
    assert {size: one.count for size, one in now.batches.items()} == {1: 1, 4: 1, 64: 1}
    assert now.batches[4].infer_ns == 3
    (seen,) = read_page(words).models
    assert {size: one.count for size, one in seen.runs.items()} == {1: 1, 4: 1, 64: 1}
    assert (seen.answered, seen.executions) == (6, 3)


@given(st.lists(st.integers(-(1 << 45), 1 << 45), min_size=4, max_size=4))
def test_no_time_leads_out_of_its_histogram(times_ns: list[int]) -> None:
    """Times beyond all measure, negative ones too, are counted in the outermost bucket."""
    words, _, row = on_page()
    queue_ns, input_ns, infer_ns, output_ns = times_ns
    Statistics(row).succeeded(
        queue_ns=queue_ns, input_ns=input_ns, infer_ns=infer_ns, output_ns=output_ns
    )
    (seen,) = read_page(words).models
    within = [min(max(one, 0), TIME_NS_MAX) for one in times_ns]
    expected = [*within, sum(within)]
    for times, time_ns in zip(seen.phases.values(), expected, strict=True):
        assert times == of([time_ns])
    assert seen.runs[1].count == 1
    assert sum(words[layout.row_begin(1) :].tolist()) == 0


def test_adding_is_cheap() -> None:
    """A request's statistics cost a few microseconds of a processor, however slow the machine
    (1.2 µs in Python where this was written; many times that is another algorithm)."""
    statistics = Statistics()
    best_us = min(
        timeit.repeat(
            lambda: statistics.succeeded(queue_ns=900, input_ns=4000, infer_ns=9000, output_ns=700),
            number=2000,
            repeat=5,
            timer=time.process_time,
        )
    )
    assert best_us / 2000 < 32e-6
