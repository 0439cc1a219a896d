"""Figures from rows of requests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.load_test.measured import (
    DROPPED,
    OK,
    QUANTILES,
    RIGHT_SCALE,
    Samples,
    curve,
    over_time,
    rank,
    spread,
    summarise,
)

MS = 1_000_000
LATENCIES = st.lists(st.integers(1, 10**10), min_size=1, max_size=300)


def samples(rows: list[tuple[int, ...]], *, begin_ms: int = 0, end_ms: int = 1000) -> Samples:
    return Samples(
        rows=np.array(rows, np.int64).reshape(-1, 5),
        kinds=("UnavailableError", "UsageError"),
        begin_ns=begin_ms * MS,
        end_ns=end_ms * MS,
    )


@settings(max_examples=100, deadline=None)
@given(LATENCIES)
def test_percentiles_are_nearest_rank(values: list[int]) -> None:
    """Each is a latency that was seen, the one that NumPy's inverted_cdf names."""
    seen = spread(np.array(values, np.int64))
    for name, quantile in QUANTILES.items():
        wanted = np.quantile(np.array(values), round(quantile, 9), method="inverted_cdf")
        assert getattr(seen, name) == pytest.approx(wanted / MS)


@settings(max_examples=100, deadline=None)
@given(LATENCIES, st.integers(0, 300))
def test_what_has_no_answer_is_later_than_any(values: list[int], missing: int) -> None:
    """A percentile that falls among the missing is None, and no smaller one is raised."""
    seen = spread(np.array(values, np.int64), missing=missing)
    count = len(values) + missing
    for name, quantile in QUANTILES.items():
        index = rank(quantile, count)
        wanted = sorted(values)[index] / MS if index < len(values) else None
        assert getattr(seen, name) == (wanted if wanted is None else pytest.approx(wanted))


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A request that was sent late was late: its waiting is latency and no service."""
    found = summarise(samples([(10 * MS, 60 * MS, 70 * MS, OK, -1)]))
    assert found.latency.p50 == 60
    assert found.service.p50 == 10
    assert found.late_p99_ms == 50


def test_warming_up_does_not_count() -> None:
    """Requests due before or after the window are left out; answers within it are throughput."""
    rows = [(due * MS, due * MS, (due + 200) * MS, OK, -1) for due in (0, 90, 100, 500, 1000)]
    found = summarise(samples(rows, begin_ms=100, end_ms=1000))
    assert found.asked == 2
    # Answered at 200, 290, 300 and 700 ms.
    assert found.throughput == pytest.approx(4 / 0.9)


def test_failures_by_kind() -> None:
    """Errors have names, drops are apart, and all of them are missing answers."""
    rows = [
        (1 * MS, 1 * MS, 2 * MS, OK, -1),
        (2 * MS, 2 * MS, 3 * MS, 1, -1),
        (3 * MS, 3 * MS, 4 * MS, 1, -1),
        (4 * MS, 9 * MS, 9 * MS, DROPPED, -1),
    ]
    found = summarise(samples(rows))
    assert found.failed == {"UnavailableError": 2}
    assert (found.answered, found.dropped, found.failures) == (1, 1, 0.75)
    assert found.judged.p50 is None
    assert found.latency.p50 == 1


def test_accuracy_is_the_share_of_rows_with_labels() -> None:
    """A batch that was half right counts half; answers without labels do not count."""
    rights = (RIGHT_SCALE, 0, RIGHT_SCALE // 2, -1)
    rows = [(n * MS, n * MS, (n + 1) * MS, OK, right) for n, right in enumerate(rights)]
    assert summarise(samples(rows)).accuracy == pytest.approx(0.5)


def test_nothing_asked_is_nothing_known() -> None:
    """Without a request there is no figure, and none of them is 0 by chance."""
    found = summarise(samples([]))
    assert (found.asked, found.failures, found.latency.p50, found.accuracy) == (0, None, None, None)
    assert curve(samples([])) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 400)), max_size=60))
def test_steps_of_time_add_up_to_the_whole(requests: list[tuple[int, int]]) -> None:
    """Answers of all steps are those of the window, and no step is slower than the whole."""
    rows = [(due * MS, due * MS, (due + took) * MS, OK, -1) for due, took in requests]
    whole = samples(rows)
    steps = over_time(whole)
    answered = sum(step["throughput"] * step["seconds"] for step in steps)
    assert answered == pytest.approx(summarise(whole).throughput)
    largest = [step["largest_ms"] for step in steps if step["largest_ms"] is not None]
    assert max(largest, default=None) == summarise(whole).latency.largest


@settings(max_examples=60, deadline=None)
@given(LATENCIES)
def test_curve_rises_and_ends_with_the_largest(values: list[int]) -> None:
    """Further out is never faster, and nothing is drawn beyond what was seen."""
    rows = [(0, 0, value, OK, -1) for value in values]
    points = curve(samples(rows))
    heights = [height for _, height in points]
    assert heights == sorted(heights)
    assert points[-1] == (1.0, max(values) / MS)
    assert all(quantile <= 1 - 1 / len(values) for quantile, _ in points[:-1])
