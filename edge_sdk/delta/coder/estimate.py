"""What codes would cost, estimated on histograms of 512 columns. Nothing here is part of the
format.

Rows of counts are of shape (512,); columns are symbols, from 511 on taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.coder.tables import (
    DIFFERENCE,
    DIFFERENCES,
    EXACT_BELOW,
    SCALE,
    SCALE_BITS,
    CodeTable,
    rounded,
    symbol_limit,
)
from edge_sdk.delta.coder.twin import COLUMNS, EXTRA_BITS

Counts = NDArray[np.float64]
Levels = NDArray[np.uint8]

# A coarser table may cost this much more than the finest: it is shorter, and fewer raw bits of
# its elements are of different widths.
_COARSER_SHARE = 1.001
# Raw bits that are tried, above those at which sizes are 8 to 15 in the middle.
_COARSER_TRIED = 4
_TABLE_BITS = 20
_CELL_BITS = 6
_FIRST_SHARED = 2 * EXACT_BELOW - 1


# Frequencies that can be written, where one ends that is nearer to another, and what each is
# above the one before it, by frequency.
_WRITABLE = np.array(sorted({rounded(one) for one in range(1, SCALE)} - {SCALE}), np.int64)
_BETWEEN = (_WRITABLE[1:] + _WRITABLE[:-1]) / 2
_STEPS = np.zeros(SCALE + 1, np.int64)
_STEPS[_WRITABLE] = np.diff(_WRITABLE, prepend=0)
_MOVES_MAX = 400


@dataclass(slots=True, kw_only=True)
class Cluster:
    """Cells of the grid of classes and levels that share a table. ``counts`` are those with
    ``shift`` raw bits."""

    cells: list[tuple[int, int]]
    counts: Counts
    shift: int
    cost_bits: float = 0.0


# --- costs --------------------------------------------------------------------------------


def code_bits(table: CodeTable) -> Counts:
    """Bits of symbols by table and column; infinite where there is no such symbol."""
    out = np.full((len(table.tables), COLUMNS), np.inf)
    for number, one in enumerate(table.tables):
        symbols = np.array(one.symbols)
        kept = symbols < columns_of(table)
        found = SCALE_BITS - np.log2(np.array(one.frequencies, np.float64))
        out[number, symbols[kept]] = found[kept]
    return out


def columns_of(table: CodeTable) -> int:
    """How many columns stand for one symbol: the last one may count several."""
    limit = symbol_limit(table.kind, table.model, table.tables[0].shift)
    return COLUMNS if limit <= COLUMNS or table.model in DIFFERENCES else COLUMNS - 1


def raw_bits(table: CodeTable) -> Counts:
    """Raw bits by table and column."""
    out = np.zeros((len(table.tables), COLUMNS))
    out += np.array([one.shift for one in table.tables])[:, None]
    if table.model in DIFFERENCES:
        out += EXTRA_BITS
    return out


def level_costs(table: CodeTable) -> Counts:
    """Bits by level before and level, of shape (8, 8)."""
    out = np.full((8, 8), np.inf)
    for number, one in enumerate(table.level_tables):
        out[number, list(one.symbols)] = SCALE_BITS - np.log2(np.array(one.frequencies, float))
    return out


def total(counts: Counts, bits: Counts) -> float:
    """Of all that occurs."""
    occurs = counts > 0
    return float((counts[occurs] * bits[occurs]).sum())


def entropy_bits(counts: Counts) -> Counts:
    """Of each row."""
    sums = counts.sum(axis=-1)
    logs = counts * np.log2(np.maximum(counts, 1e-9))
    out: Counts = sums * np.log2(np.maximum(sums, 1e-9)) - logs.sum(axis=-1)
    return out


def sign_bits(counts: Counts) -> float:
    """What the signs of differences cost, given their sizes."""
    pairs = np.concatenate([counts[1:_FIRST_SHARED], counts[_FIRST_SHARED : COLUMNS - 1]])
    return float(entropy_bits(pairs.reshape(-1, 2)).sum())


def transitions(levels: Levels) -> Counts:
    """How often each level follows each, of shape (8, 8)."""
    before = np.zeros(len(levels), np.intp)
    before[1:] = levels[:-1]
    return np.bincount(before * 8 + levels, minlength=64).reshape(8, 8).astype(np.float64)


def row_costs(counts: Counts, shifts: NDArray[Any], model: int) -> Counts:
    """Bits of rows of counts, coded with a table of their own, which is counted in."""
    sums = counts.sum(axis=-1)
    raw = sums * shifts + (counts @ EXTRA_BITS if model in DIFFERENCES else 0)
    shares = SCALE * counts / np.maximum(sums, 1)[:, None]
    occurs = counts >= 0.5
    entries = np.where(occurs, 3 + np.minimum(np.floor(np.log2(np.maximum(shares, 1))), 3), 0)
    out: Counts = entropy_bits(counts) + raw + entries.sum(axis=-1) + _TABLE_BITS
    return out


# --- coarser symbols ----------------------------------------------------------------------


_Steps = tuple[NDArray[np.intp], NDArray[np.intp], Counts]
_Shares = dict[tuple[int, int], float]  # by a symbol and what it becomes


def _one_coarser() -> _Shares:
    """Where each symbol's elements go, and in which shares, with one raw bit more (model 0).

    Which of two symbols an element goes to is known from its raw bits: here they are halved.
    """
    out: _Shares = {}
    for symbol in range(_FIRST_SHARED):
        quotient = symbol // 2 if symbol % 2 == 0 else -(symbol + 1) // 2
        half = quotient >> 1
        out[symbol, 2 * half if half >= 0 else -2 * half - 1] = 1.0
    for symbol in range(_FIRST_SHARED, COLUMNS):
        top, rest = divmod(symbol - _FIRST_SHARED, 8)
        if top:
            out[symbol, symbol - 8] = 1.0
            continue
        size, negative = 8 + 2 * (rest // 2), rest % 2 == 1
        for step, share in enumerate((0.25, 0.5, 0.25) if negative else (0.5, 0.5)):
            exact = 2 * (size + step) - negative
            out[symbol, exact if size + step < EXACT_BELOW else _FIRST_SHARED + 1] = share
    return out


@lru_cache(maxsize=64)
def _shares(count: int) -> _Shares:
    """The same with ``count`` raw bits more."""
    if count == 1:
        return _one_coarser()
    onward: dict[int, list[tuple[int, float]]] = {}
    for (symbol, to), share in _shares(1).items():
        onward.setdefault(symbol, []).append((to, share))
    out: _Shares = {}
    for (symbol, between), share in _shares(count - 1).items():
        for to, part in onward[between]:
            out[symbol, to] = out.get((symbol, to), 0.0) + share * part
    return out


@lru_cache(maxsize=64)
def _steps(count: int) -> _Steps:
    shares = _shares(count)
    places = np.array(list(shares), np.intp)
    return places[:, 0], places[:, 1], np.array(list(shares.values()))


def coarser(counts: Counts, count: int) -> Counts:
    """A row as it would be with so many raw bits more, about."""
    if not count:
        return counts
    origin, to, share = _steps(count)
    return np.bincount(to, counts[origin] * share, COLUMNS).astype(np.float64)


def _middle_shift(counts: Counts) -> int:
    """Raw bits at which the median of sizes would be 8 to 15."""
    half = np.searchsorted(np.cumsum(counts[_BY_SIZE]), counts.sum() / 2)
    symbol = int(_BY_SIZE[min(int(half), COLUMNS - 1)])
    return max(0, 1 + (symbol - _FIRST_SHARED) // 8)


_BY_SIZE = np.array([0, *(one for two in range(1, 31, 2) for one in (two, two + 1))], np.intp)
_BY_SIZE = np.concatenate([_BY_SIZE, np.arange(_FIRST_SHARED, COLUMNS)])


def shifted(rows: Sequence[Counts], bits: int) -> list[tuple[Counts, int]]:
    """Each row of counts without raw bits as it is with as many as it should have."""
    tried: list[tuple[Counts, int]] = []
    owners = []
    for number, row in enumerate(rows):
        middle = _middle_shift(row)
        for shift in sorted(
            {0, *range(max(0, middle - 1), middle + _COARSER_TRIED)} if middle else {0}
        ):
            if shift < bits:
                tried.append((coarser(row, shift), shift))
                owners.append(number)
    found = row_costs(
        np.array([row for row, _ in tried]), np.array([shift for _, shift in tried]), DIFFERENCE
    )
    least = np.full(len(rows), np.inf)
    np.minimum.at(least, owners, found)
    out: list[tuple[Counts, int]] = [(row, 0) for row in rows]
    for owner, cost, one in zip(owners, found, tried, strict=True):
        if cost <= least[owner] * _COARSER_SHARE:
            out[owner] = one
    return out


# --- merging ------------------------------------------------------------------------------


class _Merging:
    """Clusters, and what each two neighbours would save as one."""

    def __init__(self, clusters: Sequence[Cluster], model: int) -> None:
        self.model = model
        self.alive = dict(enumerate(clusters))
        self.beside = _neighbours(clusters)
        self.pairs: dict[tuple[int, int], tuple[float, Cluster]] = {}
        self._cost(clusters)
        self._offer([(i, j) for i, others in self.beside.items() for j in others if i < j])

    def _cost(self, clusters: Sequence[Cluster]) -> None:
        if clusters:
            rows = np.array([one.counts for one in clusters])
            found = row_costs(rows, np.array([one.shift for one in clusters]), self.model)
            for one, cost in zip(clusters, found, strict=True):
                one.cost_bits = float(cost) + _CELL_BITS

    def _offer(self, keys: Sequence[tuple[int, int]]) -> None:
        merged = [_merged(self.alive[first], self.alive[second]) for first, second in keys]
        self._cost(merged)
        for key, one in zip(keys, merged, strict=True):
            apart = self.alive[key[0]].cost_bits + self.alive[key[1]].cost_bits
            self.pairs[key] = (apart - one.cost_bits, one)

    def step(self, room: int) -> bool:
        """Merges the two that save most; False where none do and there is room."""
        if not self.pairs:
            return False
        key = max(self.pairs, key=lambda one: self.pairs[one][0])
        gain, merged = self.pairs[key]
        if gain <= 0 and len(self.alive) <= room:
            return False
        new = max(self.alive) + 1
        others = (self.beside.pop(key[0]) | self.beside.pop(key[1])) - set(key)
        del self.alive[key[0]], self.alive[key[1]]
        self.alive[new] = merged
        self.beside[new] = others
        for gone in [one for one in self.pairs if one[0] in key or one[1] in key]:
            del self.pairs[gone]
        for other in others:
            self.beside[other] -= set(key)
            self.beside[other].add(new)
        self._offer([(other, new) for other in others])
        return True


def merged_clusters(clusters: Sequence[Cluster], model: int, room: int) -> list[Cluster]:
    """Neighbours on the grid as one while bits fall, and until there are ``room`` at most."""
    merging = _Merging(clusters, model)
    while merging.step(room):
        pass
    return list(merging.alive.values())


def _neighbours(clusters: Sequence[Cluster]) -> dict[int, set[int]]:
    """Which stand next to each other in a class or a level, and so that all are connected."""
    beside: dict[int, set[int]] = {number: set() for number in range(len(clusters))}
    last_in: dict[tuple[str, int], int] = {}
    order = sorted(range(len(clusters)), key=lambda number: clusters[number].cells[0])
    first_of_class: dict[int, int] = {}
    for number in order:
        its_class, level = clusters[number].cells[0]
        first_of_class.setdefault(its_class, number)
        for line in (("class", its_class), ("level", level)):
            before = last_in.get(line)
            if before is not None:
                beside[number].add(before)
                beside[before].add(number)
            last_in[line] = number
    firsts = list(first_of_class.values())
    for first, second in pairwise(firsts):
        beside[first].add(second)
        beside[second].add(first)
    return beside


def _merged(first: Cluster, second: Cluster) -> Cluster:
    shift = max(first.shift, second.shift)
    counts = coarser(first.counts, shift - first.shift)
    counts = counts + coarser(second.counts, shift - second.shift)
    return Cluster(cells=first.cells + second.cells, counts=counts, shift=shift)


def frequencies_of(counts: Counts, spare: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Symbols and frequencies, at least 1 for each that occurs or is spare; all but the largest
    are such as can be written."""
    wanted = counts > 0
    wanted[list(spare)] = True
    symbols = np.flatnonzero(wanted)
    if len(symbols) < 2:
        return (int(symbols[0]) if len(symbols) else 0,), (SCALE,)
    here = counts[symbols]
    ideal = np.maximum(1.0, here * SCALE / max(float(here.sum()), 1e-9))
    found = _WRITABLE[np.minimum(np.searchsorted(_BETWEEN, ideal), len(_WRITABLE) - 1)]
    rest = int(ideal.argmax())
    found[rest] = 0
    left = SCALE - int(found.sum())
    for _ in range(_MOVES_MAX):
        largest = int(found.argmax())
        if left <= found[largest]:
            best = largest
        else:
            lower = found - _STEPS[found]
            gain = here[rest] * np.log2((left + _STEPS[found]) / left)
            loss = here * np.log2(np.maximum(found, 1) / np.maximum(lower, 1))
            worth = np.where((lower >= 1) & (found > 0), gain - loss, -np.inf)
            best = int(worth.argmax())
            if worth[best] <= 0:
                break
        left += int(_STEPS[found[best]])
        found[best] -= _STEPS[found[best]]
    found[rest] = left
    return tuple(int(one) for one in symbols), tuple(int(one) for one in found)
