"""What is tried, and which one is wanted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.tuning.choose import (
    EFFECT,
    Figures,
    Setting,
    Wish,
    batch_settings,
    best,
    breaks,
    first_settings,
)
from device_agent.tuning.compare import Comparison

PRESENT = Setting(threads=1, loading="prepacked", batch_max=4)


def comparison(ratio: float, *, p: float = 0.001) -> Comparison:
    return Comparison(ratio=ratio, low=ratio, high=ratio, p_less=p, p_more=p, pairs=7)


def figures(
    *, latency: float = 1.0, throughput: float = 1.0, memory: float = 1.0, p: float = 0.001
) -> Figures:
    """Of a candidate, as shares of a present 10 ms, 100/s and 10 MB."""
    return Figures(
        latency_ms=10 * latency,
        p99_ms=20 * latency,
        throughput=100 * throughput,
        memory_bytes=int(10e6 * memory),
        latency=comparison(latency, p=p),
        throughput_ratio=comparison(throughput, p=p),
        memory_ratio=memory,
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 256))
def test_first_settings_differ_and_stay_within_the_cores(cores: int) -> None:
    """Each at most once, none the present one, no more threads than cores, all cores too."""
    found = first_settings(PRESENT, cores=cores, loadings=("prepacked", "mapped"))
    assert len(set(found)) == len(found) <= 24
    assert PRESENT not in found
    assert {one.batch_max for one in found} == {4}
    assert max(one.threads for one in found) == cores
    assert min(one.threads for one in found) == 1


def test_batches_are_tried_where_rows_are_free() -> None:
    """Other bounds than the best one's, and none for a model of a fixed size."""
    found = batch_settings(PRESENT, clients=64, is_free=True)
    assert {one.batch_max for one in found} == {1, 2, 8, 16, 32}
    few = batch_settings(PRESENT, clients=5, is_free=True)
    assert {one.batch_max for one in few} == {1, 2, 8}
    assert batch_settings(PRESENT, clients=64, is_free=False) == ()


@pytest.mark.parametrize(
    ("wish", "broken"),
    [
        (Wish(goal="latency"), ""),
        (Wish(goal="throughput", latency_ms_max=19), "latency 20 ms over 19"),
        (Wish(goal="throughput", latency_ms_max=20), ""),
        (Wish(goal="latency", throughput_min=51), "throughput 50/s under 51"),
        (Wish(goal="latency", memory_bytes_max=4_000_000), "memory 5.0 MB over 4"),
        (Wish(goal="memory"), "latency 2.00 times"),
        (Wish(goal="memory", latency_ms_max=30), ""),
    ],
)
def test_bounds(wish: Wish, broken: str) -> None:
    """A bound that is broken is said with both numbers; memory may not cost too much speed."""
    found = breaks(wish, figures(latency=2, throughput=0.5, memory=0.5))
    assert broken in found
    assert bool(found) == bool(broken)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.3, 2), st.floats(0.3, 2), st.floats(0.3, 2)), max_size=8),
    st.sampled_from(["latency", "throughput", "memory"]),
    st.floats(0, 20),
    st.booleans(),
)
def test_best_is_within_the_bounds_and_no_other_is_better(
    ratios: list[tuple[float, float, float]], goal: str, latency_ms_max: float, any_gain: bool
) -> None:
    """What is chosen breaks no bound, is worth it, and none that fits has a larger gain."""
    wish = Wish(goal=goal, latency_ms_max=latency_ms_max)  # type: ignore[arg-type]
    measured = [
        (
            Setting(threads=number, loading="mapped", batch_max=1),
            figures(latency=latency, throughput=throughput, memory=memory),
        )
        for number, (latency, throughput, memory) in enumerate(ratios, 1)
    ]
    fit = {
        setting: one.gain(wish.goal)
        for setting, one in measured
        if not breaks(wish, one) and (any_gain or one.gain(wish.goal) <= 1 - EFFECT)
    }
    chosen = best(wish, measured, any_gain=any_gain)
    assert (chosen is None) == (not fit)
    if chosen is not None:
        assert fit[chosen] == min(fit.values())


def test_proved_is_better_by_enough_and_surely() -> None:
    """A gain of 2 %, or one that noise may be, is no proof."""
    assert figures(latency=0.9).is_proved("latency")
    assert not figures(latency=0.98).is_proved("latency")
    assert not figures(latency=0.5, p=0.2).is_proved("latency")
    assert figures(throughput=1.2).is_proved("throughput")
    assert figures(memory=0.5, p=1.0).is_proved("memory")
