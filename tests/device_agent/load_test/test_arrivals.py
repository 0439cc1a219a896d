"""Schedules of an open loop."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.load_test.arrivals import schedule_ns

RATES = st.floats(0.5, 2000)
DURATIONS = st.floats(0.01, 5)
KINDS = st.sampled_from(["poisson", "constant"])


@settings(max_examples=100, deadline=None)
@given(rate=RATES, duration=DURATIONS, kind=KINDS, seed=st.integers(0, 2**31))
def test_schedule_lies_in_its_time_and_can_be_had_again(rate, duration, kind, seed) -> None:
    """Every time is within the duration, in order, and the same for the same seed."""
    times = schedule_ns(rate, duration, arrivals=kind, seed=seed)
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= 0) & (times < duration * 1e9))
    assert np.array_equal(times, schedule_ns(rate, duration, arrivals=kind, seed=seed))


def test_constant_gaps_are_equal() -> None:
    """A constant rate of 100 a second has gaps of 10 ms."""
    times = schedule_ns(100, 2, arrivals="constant", seed=0)
    assert len(times) == 200
    assert np.all(np.abs(np.diff(times) - 10_000_000) <= 1)


def test_poisson_has_its_rate_and_exponential_gaps() -> None:
    """Over 20,000 arrivals the mean gap is that of the rate, and its deviation equals it."""
    gaps = np.diff(schedule_ns(1000, 20, arrivals="poisson", seed=3)) / 1e6
    assert abs(gaps.mean() - 1) < 0.03
    assert abs(gaps.std() - 1) < 0.05


def test_another_seed_gives_other_arrivals() -> None:
    """Two loads of a test do not ask in step."""
    one, other = (schedule_ns(50, 2, arrivals="poisson", seed=seed) for seed in (1, 2))
    assert not np.array_equal(one[:10], other[:10])
