"""Paired comparison of two settings."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.tuning.compare import compare, signed_rank

DIFFERENCES = st.lists(st.integers(-6, 6), min_size=1, max_size=9)
PAIRS = st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.1, 100)), min_size=1, max_size=20)


def mean_ranks(values: list[int]) -> list[float]:
    """By counting, as the definition has it."""
    return [
        sum(other < one for other in values) + (sum(other == one for other in values) + 1) / 2
        for one in values
    ]


@settings(max_examples=100, deadline=None)
@given(DIFFERENCES)
def test_probabilities_are_those_of_all_choices_of_signs(differences: list[int]) -> None:
    """The exact distribution agrees with trying every choice of signs, ties and zeros too."""
    rest = [one for one in differences if one]
    ranks = mean_ranks([abs(one) for one in rest])
    seen = sum(rank for rank, one in zip(ranks, rest, strict=True) if one > 0)
    sums = [
        sum(itertools.compress(ranks, signs))
        for signs in itertools.product((0, 1), repeat=len(rest))
    ]
    less = np.mean([one <= seen for one in sums])
    more = np.mean([one >= seen for one in sums])
    assert signed_rank(np.array(differences, float)) == pytest.approx((less, more))


@settings(max_examples=100, deadline=None)
@given(PAIRS)
def test_turning_the_sides_turns_the_answer(pairs: list[tuple[float, float]]) -> None:
    """The ratio is inverted, its interval and probabilities change places."""
    one = compare([a for a, _ in pairs], [b for _, b in pairs])
    other = compare([b for _, b in pairs], [a for a, _ in pairs])
    assert one.ratio == pytest.approx(1 / other.ratio)
    assert one.low == pytest.approx(1 / other.high)
    assert (one.p_less, one.p_more) == pytest.approx((other.p_more, other.p_less))
    assert one.low <= one.ratio <= one.high


def test_all_pairs_better_is_as_unlikely_as_it_gets() -> None:
    """Seven pairs that all became faster by a tenth: the ratio is 0.9, p is 1 of 128."""
    present = [1.0, 2.0, 4.0, 3.0, 5.0, 9.0, 0.5]
    found = compare(present, [0.9 * one for one in present])
    assert found.ratio == pytest.approx(0.9)
    assert (found.low, found.high) == pytest.approx((0.9, 0.9))
    assert found.p_less == pytest.approx(1 / 128, rel=0.3)
    assert found.p_more > 0.99


def test_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over 400 comparisons with a true ratio of 1.2 it is inside in 93 to 98 %."""
    random = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        noise = random.standard_normal((2, 12)) * 0.2
        found = compare(np.exp(noise[0]), 1.2 * np.exp(noise[1]))
        inside += found.low <= 1.2 <= found.high
    assert 0.93 <= inside / 400 <= 0.98


def test_no_difference_is_seldom_taken_for_one() -> None:
    """With equal sides p is at most 0.05 in about that share of the cases."""
    random = np.random.default_rng(8)
    pairs = np.exp(random.standard_normal((500, 2, 10)))
    wrong = np.mean([compare(one, other).p_less <= 0.05 for one, other in pairs])
    assert wrong <= 0.075


@pytest.mark.parametrize("sides", [([], []), ([1.0], [1.0, 2.0]), ([1.0] * 61, [1.0] * 61)])
def test_what_is_no_pairs_is_refused(sides: tuple[list[float], list[float]]) -> None:
    """Nothing, sides of different lengths and more pairs than can be counted are refused."""
    with pytest.raises(ValueError, match="no pairs"):
        compare(*sides)
