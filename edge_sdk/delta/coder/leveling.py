"""How levels are found: what makes those of one record's elements comparable with another's.
Nothing here is part of the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import coder, numeric
from edge_sdk.delta.coder.tables import ALONE, LEVEL_ELEMENTS, LEVELS_MAX, raw_shift
from edge_sdk.delta.numeric import Bits, ElementKind
from edge_sdk.delta.products import product

Levels = NDArray[np.uint8]

Counts = NDArray[np.float32]

_ROUNDS = 8
_UNSEEN_COUNT = 2
# Symbols of integers are taken together by so many bits: chance must not tell groups apart.
_COARSER = 3


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Levels of which some are one: ``numbers`` by level."""

    leveling: Leveling
    numbers: NDArray[np.uint8]

    def levels(self, source: Bits | None, target: Bits) -> Levels:
        # Other elements may have levels that those it was made for did not.
        found = np.minimum(self.leveling.levels(source, target), len(self.numbers) - 1)
        joined: Levels = self.numbers[found]
        return joined


@dataclass(frozen=True, slots=True, kw_only=True)
class ByCode:
    """Which of some codes is shortest for the symbols of elements alone.

    ``costs``: bits of each symbol, of shape (levels, symbols).
    """

    kind: ElementKind
    costs: NDArray[np.float32]

    @classmethod
    def of(cls, kind: ElementKind, target: Bits, first: Levels) -> ByCode:
        """Codes of groups that are alike, from a first guess or from how unusual groups are,
        whichever comes to less."""
        counts = _group_counts(kind, target)
        unusual = product(counts, _costs(counts, np.zeros(len(counts), np.intp)).T)[:, 0]
        cuts = np.quantile(unusual, np.arange(1, LEVELS_MAX) / LEVELS_MAX)
        found = (
            _refined(counts, levels)
            for levels in (first, np.searchsorted(np.unique(cuts), unusual, side="right"))
        )
        return cls(kind=kind, costs=min(found, key=lambda one: one[0])[1])

    def levels(self, source: Bits | None, target: Bits) -> Levels:
        bits = product(_group_counts(self.kind, target), self.costs.T)
        found: Levels = bits.argmin(axis=1).astype(np.uint8)
        return found


def _refined(counts: Counts, levels: NDArray[Any]) -> tuple[float, Counts]:
    """Bits that groups take, and the codes: of groups by level, then groups by code, and again."""
    for _ in range(_ROUNDS):
        costs = _costs(counts, levels)
        bits = product(counts, costs.T)
        levels = bits.argmin(axis=1)
    return float(bits.min(axis=1).sum(dtype=np.float64)), costs


def _costs(counts: Counts, levels: NDArray[Any]) -> Counts:
    """Bits of symbols by each level that occurs."""
    sums = np.stack([counts[levels == one].sum(axis=0) for one in np.unique(levels)])
    # What a level has not seen it sees as seldom as all groups.
    sums += _UNSEEN_COUNT * counts.mean(axis=0) + 1e-3
    found: Counts = -np.log2(sums / sums.sum(axis=1, keepdims=True)).astype(np.float32)
    return found


def _group_counts(kind: ElementKind, target: Bits) -> Counts:
    """How often each group has each symbol."""
    shift = raw_shift(kind, ALONE) + (0 if kind.is_float else _COARSER)
    columns = 1 << (8 * kind.width_bytes - shift)
    groups = np.arange(len(target)) // LEVEL_ELEMENTS
    places = groups * columns + (target >> kind.bits.type(shift)).astype(np.intp)
    size = -(-len(target) // LEVEL_ELEMENTS) * columns
    return np.bincount(places, minlength=size).astype(np.float32).reshape(-1, columns)


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
