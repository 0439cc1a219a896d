"""Buckets of times and their percentiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.statistics_page.histogram import (
    ERROR_MAX,
    SHARES,
    TIME_NS_MAX,
    Histogram,
    bounds_ns,
    bucket_of,
    of,
    stands_for_ns,
)
from device_agent.statistics_page.layout import BUCKETS

TIMES = st.integers(0, 4 * TIME_NS_MAX)


def test_buckets_follow_each_other() -> None:
    """Every time has one bucket: where one ends the next begins, up to the last."""
    assert bounds_ns(0) == (0, 0)
    for bucket in range(1, BUCKETS):
        assert bounds_ns(bucket)[0] == bounds_ns(bucket - 1)[1] + 1
    assert bounds_ns(BUCKETS - 1)[1] >= 4 * TIME_NS_MAX


@given(TIMES)
def test_a_time_lies_in_its_bucket(time_ns: int) -> None:
    """The bounds of a time's bucket hold it, and what stands for the bucket is near it."""
    bucket = bucket_of(time_ns)
    low, high = bounds_ns(bucket)
    assert low <= time_ns <= high
    assert abs(stands_for_ns(bucket) - time_ns) <= ERROR_MAX * time_ns


@settings(max_examples=80, deadline=None)
@given(st.lists(TIMES, min_size=1, max_size=300), st.sampled_from(sorted(SHARES.values())))
def test_percentiles_are_as_near_as_promised(times_ns: list[int], share: float) -> None:
    """A percentile is at most a ninth off the exact one of the same rank."""
    exact = float(np.quantile(np.array(times_ns), share, method="inverted_cdf"))
    got = of(times_ns).percentile_ns(share)
    assert got is not None
    assert abs(got - exact) <= ERROR_MAX * exact + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_percentiles_of_many_times(seed: int) -> None:
    """The same for many times that spread over five powers of ten, as latencies do."""
    times = np.random.default_rng(seed).lognormal(11, 2.0, 20_000).astype(np.int64)
    counted = of(times.tolist())
    for share in SHARES.values():
        exact = float(np.quantile(times, share))
        assert math.isclose(counted.percentile_ns(share) or 0.0, exact, rel_tol=0.12)


def test_nothing_counted_has_no_percentile() -> None:
    """An empty histogram answers None, not zero."""
    assert set(Histogram().percentiles_ns().values()) == {None}


@given(st.lists(TIMES, max_size=50), st.lists(TIMES, max_size=50))
def test_a_difference_is_what_came_between(early: list[int], late: list[int]) -> None:
    """What was counted after a look is exactly what was added since."""
    assert of(early + late).since(of(early)) == of(late)


def test_a_histogram_that_began_anew_is_whole() -> None:
    """Where the earlier look is of another life, all that is there now is new."""
    assert of([5, 7]).since(of([1000, 2000])) == of([5, 7])
    assert of([5]).since(of([5, 5])) == of([5])


@given(st.lists(TIMES, max_size=50), st.integers(3, 40))
def test_counts_up_to_a_power_of_two(times_ns: list[int], power: int) -> None:
    """Below a power of two the count is exact: a bucket ends there."""
    assert of(times_ns).below(1 << power) == sum(one < 1 << power for one in times_ns)
