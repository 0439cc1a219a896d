"""Whether one of two settings is better, from pairs that were measured next to each other.

Pairs share what the machine was doing, so their ratio says more than either side. Methods:
the signed-rank test (Wilcoxon, Individual Comparisons by Ranking Methods, 1945) with its exact
distribution, and the estimate and interval that belong to it (Hodges and Lehmann, Estimates
of Location Based on Rank Tests, 1963): no assumption but that noise is symmetric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CONFIDENCE = 0.95
_PAIRS_MAX = 60  # the exact distribution of more would take long, and none are measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """``ratio``: candidate to present, with its interval of 95 %. ``p_less``, ``p_more``: how
    likely pairs as small, or as large, are if there is no difference."""

    ratio: float
    low: float
    high: float
    p_less: float
    p_more: float
    pairs: int


def compare(present: Sequence[float], candidate: Sequence[float]) -> Comparison:
    """Values above 0, one pair a round, 1 to 60 of them."""
    if len(present) != len(candidate) or not 1 <= len(present) <= _PAIRS_MAX:
        raise ValueError(f"{len(present)} and {len(candidate)} values are no pairs")
    logs = np.log(np.asarray(candidate, float)) - np.log(np.asarray(present, float))
    walsh = np.sort(_walsh_averages(logs))
    low, high = _interval(walsh, len(logs))
    p_less, p_more = signed_rank(logs)
    return Comparison(
        ratio=math.exp(float(np.median(walsh))),
        low=math.exp(low),
        high=math.exp(high),
        p_less=p_less,
        p_more=p_more,
        pairs=len(logs),
    )


def signed_rank(differences: NDArray[np.float64]) -> tuple[float, float]:
    """One-sided probabilities (less, more) of the signed-rank test, exact also with ties.

    Differences of 0 say nothing and are left out; without any other both are 1.
    """
    rest = differences[differences != 0]
    if not len(rest):
        return 1.0, 1.0
    doubled = _doubled_ranks(np.abs(rest))
    counts = _distribution(doubled)
    positive = int(doubled[rest > 0].sum())
    whole = counts.sum()
    return float(counts[: positive + 1].sum() / whole), float(counts[positive:].sum() / whole)


def _doubled_ranks(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Twice the rank of each, so that the mean ranks of ties are whole numbers."""
    ordered = np.sort(values)
    first = np.searchsorted(ordered, values, side="left")
    last = np.searchsorted(ordered, values, side="right")
    return (first + last + 1).astype(np.int64)


def _distribution(doubled: NDArray[np.int64]) -> NDArray[np.float64]:
    """How many of the 2^n choices of signs give each sum of positive (doubled) ranks."""
    counts = np.zeros(int(doubled.sum()) + 1)
    counts[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(counts)
        shifted[rank:] = counts[: len(counts) - rank]
        counts = counts + shifted
    return counts


def _walsh_averages(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of all pairs, each with itself too."""
    first, second = np.triu_indices(len(values))
    return np.asarray((values[first] + values[second]) / 2)


def _interval(walsh: NDArray[np.float64], count: int) -> tuple[float, float]:
    """The Walsh averages that the test does not reject as the difference.

    With five pairs or fewer no interval of 95 % is bounded: the whole range is given.
    """
    counts = _distribution(2 * np.arange(1, count + 1, dtype=np.int64))[::2]
    below = np.cumsum(counts) / counts.sum()
    outside = int(np.searchsorted(below, (1 - _CONFIDENCE) / 2, side="right"))
    return float(walsh[outside]), float(walsh[len(walsh) - 1 - outside])
