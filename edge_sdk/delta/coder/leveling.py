"""How levels are found: what makes those of one record's elements comparable with another's.
Nothing here is part of the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import coder, numeric
from edge_sdk.delta.coder.tables import LEVEL_ELEMENTS, LEVELS_MAX
from edge_sdk.delta.numeric import Bits, ElementKind

Levels = NDArray[np.uint8]

_ROUNDS = 8


class Leveling(Protocol):
    """Gives each group of elements a level below ``LEVELS_MAX``, of shape (groups,)."""

    def levels(self, source: Bits | None, target: Bits) -> Levels: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BySize:
    """How large differences are, against the mean of their source's key.

    ``inverse_means`` by key, as in the backends.
    """

    kind: ElementKind
    inverse_means: NDArray[np.uint32]

    def levels(self, source: Bits | None, target: Bits) -> Levels:
        if source is None:
            return np.zeros(-(-len(target) // LEVEL_ELEMENTS), np.uint8)
        return coder.levels(self.kind, source, target, self.inverse_means)


@dataclass(frozen=True, slots=True, kw_only=True)
class ByMean:
    """How large elements are themselves: the mean of exponents, or of integers as unsigned ones,
    whose middle may drift."""

    kind: ElementKind
    cuts: NDArray[np.float64]

    @classmethod
    def of(cls, kind: ElementKind, target: Bits) -> ByMean:
        """Levels of groups whose means are alike."""
        means = _means(kind, target)
        middles = np.unique(np.quantile(means, (np.arange(LEVELS_MAX) + 0.5) / LEVELS_MAX))
        for _ in range(_ROUNDS):
            found = np.searchsorted(_between(middles), means, side="right")
            counts = np.bincount(found)
            middles = np.bincount(found, means)[counts > 0] / counts[counts > 0]
        return cls(kind=kind, cuts=_between(middles))

    def levels(self, source: Bits | None, target: Bits) -> Levels:
        means = _means(self.kind, target)
        return np.searchsorted(self.cuts, means, side="right").astype(np.uint8)


def _between(middles: NDArray[np.float64]) -> NDArray[np.float64]:
    cuts: NDArray[np.float64] = (middles[1:] + middles[:-1]) / 2
    return cuts


def _means(kind: ElementKind, target: Bits) -> NDArray[np.float64]:
    """Of each group."""
    numbers = numeric.exponents(target, kind) if kind.is_float else target
    starts = np.arange(0, len(target), LEVEL_ELEMENTS)
    sums = np.add.reduceat(numbers, starts, dtype=np.float64)
    found: NDArray[np.float64] = sums / np.diff(starts, append=len(target))
    return found
