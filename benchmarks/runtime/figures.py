"""Percentiles and what is made of rounds. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def percentile(samples: Sequence[float], percent: float) -> float:
    """The smallest sample that at least ``percent`` of all do not exceed. Raises: ValueError."""
    if not samples:
        raise ValueError("no samples")
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def percentiles(rounds: Sequence[Sequence[float]], percent: float) -> list[float]:
    """One for each round."""
    return [percentile(samples, percent) for samples in rounds]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """By round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def excesses(values: Sequence[float], floor: Sequence[float]) -> list[float]:
    """By round: how far above the floor of the same round."""
    return [value - low for value, low in zip(values, floor, strict=True)]


def growth_percent(before: float, after: float) -> float:
    return 100 * (after - before) / before


def best(rates: Mapping[str, Sequence[float]]) -> str:
    """The way with the highest median: what a patient person would have set by hand."""
    return max(rates, key=lambda way: percentile(rates[way], 50))
