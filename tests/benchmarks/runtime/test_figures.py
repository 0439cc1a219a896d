"""Percentiles, ratios and excesses by round."""

from __future__ import annotations

import pytest

from benchmarks.runtime import figures


@pytest.mark.parametrize(
    ("percent", "expected"), [(0, 1), (50, 50), (99, 99), (99.9, 100), (100, 100)]
)
def test_a_percentile_is_a_sample(percent: float, expected: float) -> None:
    """It is the smallest sample that so many of all do not exceed: nothing is interpolated."""
    assert figures.percentile([float(one) for one in range(100, 0, -1)], percent) == expected


def test_nothing_has_no_percentile() -> None:
    """No samples are an error, not a zero that would pass for fast."""
    with pytest.raises(ValueError, match="no samples"):
        figures.percentile([], 50)


def test_rounds_are_compared_with_their_own_anchor() -> None:
    """Ratios and excesses pair a round with the same round, and refuse a missing one."""
    assert figures.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert figures.excesses([2.0, 9.0], [1.0, 3.0]) == [1.0, 6.0]
    assert figures.percentiles([[1.0, 2.0], [3.0]], 100) == [2.0, 3.0]
    with pytest.raises(ValueError, match="zip"):
        figures.ratios([1.0], [1.0, 2.0])


def test_growth_is_of_what_was_there_before() -> None:
    """From 50 to 51 is two percent."""
    assert figures.growth_percent(50, 51) == pytest.approx(2)


def test_the_best_window_has_the_highest_median() -> None:
    """One lucky round does not make a window the best."""
    assert figures.best({"off": [1.0, 9.0, 1.0], "window-2": [2.0, 2.0, 2.0]}) == "window-2"
