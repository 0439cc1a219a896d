"""Code tables made for given elements: which classes and levels, how many raw bits, what
frequencies. Nothing here is part of the format.

All estimates are dot products on histograms of 512 columns; elements are only passed over by
the backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import coder
from edge_sdk.delta.coder.tables import (
    ALONE,
    CLASSES_MAX,
    DIFFERENCE,
    SCALE,
    SCALE_BITS,
    SYMBOLS_MAX,
    TABLES_MAX,
    CodeTable,
    Table,
    is_possible,
    pack,
    raw_shift,
    symbol_limit,
)
from edge_sdk.delta.coder.twin import COLUMNS, EXTRA_BITS, THRESHOLDS
from edge_sdk.delta.numeric import Bits, ElementKind

Counts = NDArray[np.float64]  # one row or several of 512 columns
Levels = NDArray[np.uint8]

LEVELS = len(THRESHOLDS) + 1
_INVERSE_ONE = 1 << 26
# A coarser table may cost this much more than the finest: it is shorter, and fewer raw bits of
# its elements are of different widths.
_COARSER_SHARE = 1.0025
_TABLE_BITS = 14
_BOUND_BITS = 12
# Keys of fewer elements join a neighbour at once.
_KEY_ELEMENTS_MIN = 48
# Symbols that did not occur get a place too, since other records of a tensor may have them,
# until they take this share of the others' bits.
_SPARE_SHARE = 0.003
_SPARE_BITS = 1.45 / SCALE
_LEVEL_ELEMENTS_MIN = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A code table and what it costs on the elements that it was made for.

    ``inverse_means`` make levels of other elements comparable; None without levels.
    """

    table: CodeTable
    inverse_means: NDArray[np.uint32] | None
    levels: Levels | None
    payload_bits: float
    table_bytes: int

    @property
    def cost_bits(self) -> float:
        return self.payload_bits + 8 * self.table_bytes


@dataclass(slots=True, kw_only=True)
class _Cluster:
    """Cells of the grid of classes and levels that share a table."""

    cells: list[tuple[int, int]]
    counts: Counts
    shift: int
    cost_bits: float = 0.0


@dataclass(frozen=True, slots=True)
class _Leveled:
    """Levels of elements, all below ``used``, and what they were made with."""

    levels: Levels
    inverse_means: NDArray[np.uint32]
    used: int


# --- costs --------------------------------------------------------------------------------


def code_bits(table: CodeTable) -> Counts:
    """Bits of symbols by table and column; infinite where there is no such symbol."""
    out = np.full((len(table.tables), COLUMNS), np.inf)
    for number, one in enumerate(table.tables):
        symbols = np.array(one.symbols)
        kept = symbols < _columns(table)
        found = SCALE_BITS - np.log2(np.array(one.frequencies, np.float64))
        out[number, symbols[kept]] = found[kept]
    return out


def _columns(table: CodeTable) -> int:
    """How many columns stand for one symbol: the last one may count several."""
    limit = symbol_limit(table.kind, table.model, table.tables[0].shift)
    return COLUMNS if limit <= COLUMNS or table.model == DIFFERENCE else COLUMNS - 1


def raw_bits(table: CodeTable) -> Counts:
    """Raw bits by table and column."""
    out = np.zeros((len(table.tables), COLUMNS))
    out += np.array([one.shift for one in table.tables])[:, None]
    if table.model == DIFFERENCE:
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


def transitions(levels: Levels) -> Counts:
    """How often each level follows each, of shape (8, 8)."""
    before = np.zeros(len(levels), np.intp)
    before[1:] = levels[:-1]
    return np.bincount(before * 8 + levels, minlength=64).reshape(8, 8).astype(np.float64)


def _row_costs(counts: Counts, shifts: NDArray[Any], model: int) -> Counts:
    """Bits of rows of counts, coded with a table of their own, which is counted in."""
    sums = counts.sum(axis=-1)
    raw = sums * shifts + (counts @ EXTRA_BITS if model == DIFFERENCE else 0)
    shares = SCALE * counts / np.maximum(sums, 1)[:, None]
    occurs = counts >= 0.5
    entries = np.where(occurs, 2 * np.floor(np.log2(np.maximum(shares, 1))) + 2.5, 0)
    out: Counts = entropy_bits(counts) + raw + entries.sum(axis=-1) + _TABLE_BITS
    return out


# --- coarser symbols ----------------------------------------------------------------------


def _coarser_steps() -> tuple[NDArray[np.intp], NDArray[np.intp], Counts]:
    """Where each symbol's elements go, and in which shares, with one raw bit more (model 0).

    Which of two symbols an element goes to is known from its raw bits: here they are halved.
    """
    steps: list[tuple[int, int, float]] = []
    for symbol in range(31):
        quotient = (symbol // 2) if symbol % 2 == 0 else -(symbol + 1) // 2
        half = quotient >> 1
        steps.append((symbol, 2 * half if half >= 0 else -2 * half - 1, 1.0))
    for symbol in range(31, COLUMNS):
        top, rest = divmod(symbol - 31, 8)
        if top:
            steps.append((symbol, symbol - 8, 1.0))
            continue
        low = 8 + 2 * (rest // 2)
        shares = ((low, 0.25), (low + 1, 0.5), (low + 2, 0.25)) if rest % 2 else ()
        for size, share in shares or ((low, 0.5), (low + 1, 0.5)):
            to = (2 * size - 1 if size < 16 else 32) if rest % 2 else 2 * size
            steps.append((symbol, to, share))
    return (
        np.array([one[0] for one in steps], np.intp),
        np.array([one[1] for one in steps], np.intp),
        np.array([one[2] for one in steps], np.float64),
    )


_ORIGIN, _TO, _SHARE = _coarser_steps()


def _coarser(counts: Counts, steps: int) -> Counts:
    """One row as it would be with so many raw bits more, about."""
    for _ in range(steps):
        moved = np.bincount(_TO, weights=counts[_ORIGIN] * _SHARE, minlength=COLUMNS)
        counts = moved.astype(np.float64)
    return counts


def _best_shift(counts: Counts, kind: ElementKind) -> tuple[Counts, int]:
    """A row of counts without raw bits, and how many it should have."""
    rows = [counts]
    last = int(np.flatnonzero(counts).max(initial=0))
    for _ in range(min((max(0, last - 31) // 8), 8 * kind.width_bytes - 2)):
        rows.append(_coarser(rows[-1], 1))
    found = _row_costs(np.array(rows), np.arange(len(rows)), DIFFERENCE)
    shift = int(np.flatnonzero(found <= found.min() * _COARSER_SHARE).max())
    return rows[shift], shift


# --- merging ------------------------------------------------------------------------------


def _clustered(clusters: list[_Cluster], model: int) -> list[_Cluster]:
    """Merges neighbours on the grid while bits fall."""
    if not clusters:
        return clusters
    found = _row_costs(
        np.array([one.counts for one in clusters]), np.array([one.shift for one in clusters]), model
    )
    for one, cost in zip(clusters, found, strict=True):
        one.cost_bits = float(cost)
    alive = dict(enumerate(clusters))
    pairs: dict[tuple[int, int], tuple[float, _Cluster]] = {}

    def offer(keys: list[tuple[int, int]]) -> None:
        merged = [_merged(alive[first], alive[second]) for first, second in keys]
        if merged:
            rows = np.array([one.counts for one in merged])
            bits = _row_costs(rows, np.array([one.shift for one in merged]), model)
            for key, one, cost in zip(keys, merged, bits, strict=True):
                one.cost_bits = float(cost)
                apart = alive[key[0]].cost_bits + alive[key[1]].cost_bits
                pairs[key] = (apart + _BOUND_BITS - one.cost_bits, one)

    offer([(i, j) for i in alive for j in alive if i < j and _touch(alive[i], alive[j])])
    following = len(clusters)
    while pairs:
        key = max(pairs, key=lambda one: pairs[one][0])
        gain, merged = pairs[key]
        if gain <= 0 and len(alive) <= TABLES_MAX:
            break
        del alive[key[0]], alive[key[1]]
        for gone in [one for one in pairs if set(one) & set(key)]:
            del pairs[gone]
        alive[following] = merged
        offer([(i, following) for i in alive if i != following and _touch(alive[i], merged)])
        following += 1
    return list(alive.values())


def _touch(first: _Cluster, second: _Cluster) -> bool:
    return any(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a in first.cells for b in second.cells)


def _merged(first: _Cluster, second: _Cluster) -> _Cluster:
    shift = max(first.shift, second.shift)
    counts = _coarser(first.counts, shift - first.shift)
    counts = counts + _coarser(second.counts, shift - second.shift)
    return _Cluster(cells=first.cells + second.cells, counts=counts, shift=shift)


# --- fitting ------------------------------------------------------------------------------


@dataclass(slots=True)
class Fitter:
    """Makes code tables for one record's elements; keeps what several models need."""

    kind: ElementKind
    source: Bits | None
    target: Bits
    _scales: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = field(default=None)

    def fit(self, model: int, *, levels: bool) -> Fit | None:
        """The best table of a model that was found; None where it has too many symbols."""
        bounds = self._first_bounds(model)
        grid = self._grid(model, bounds, None, 1)
        clusters = _clustered(self._cells(grid, model, 1), model)
        classes, cells = _classes(bounds, clusters, 1)
        plain = self._finished(model, classes, cells, clusters)
        if plain is None or not levels or len(self.target) < _LEVEL_ELEMENTS_MIN:
            return plain
        with_levels = self._with_levels(model, classes)
        if with_levels is None or with_levels.cost_bits >= plain.cost_bits:
            return plain
        return with_levels

    def _with_levels(self, model: int, bounds: Sequence[int]) -> Fit | None:
        assert self.source is not None
        counts, sums = self._found_scales()
        inverse = (counts * np.uint64(_INVERSE_ONE)) // np.maximum(sums, np.uint64(1))
        means = np.minimum(inverse, np.uint64(2**32 - 1)).astype(np.uint32)
        levels = coder.levels(self.kind, self.source, self.target, means)
        used = int(levels.max()) + 1
        if used == 1:
            return None
        grid = self._grid(model, bounds, levels, used)
        clusters = _clustered(self._cells(grid, model, used), model)
        classes, cells = _classes(bounds, clusters, used)
        return self._finished(model, classes, cells, clusters, _Leveled(levels, means, used))

    def _found_scales(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        if self._scales is None:
            assert self.source is not None
            self._scales = coder.scales(self.kind, self.source, self.target)
        return self._scales

    def _first_bounds(self, model: int) -> list[int]:
        """A class for each key that occurs, as far as there may be so many."""
        if model == ALONE or not self.kind.is_float:
            return []
        counts, _ = self._found_scales()
        keys = [int(key) for key in np.flatnonzero(counts)]
        sizes = [int(counts[key]) for key in keys]
        while len(sizes) > 1 and (len(sizes) > CLASSES_MAX or min(sizes) < _KEY_ELEMENTS_MIN):
            at = sizes.index(min(sizes))
            # Into the neighbour above, or below where there is none.
            into = at if at + 1 < len(sizes) else at - 1
            sizes[into : into + 2] = [sizes[into] + sizes[into + 1]]
            del keys[into + 1]
        return [key for key in keys[1:] if key > 0]

    def _grid(self, model: int, bounds: Sequence[int], levels: Levels | None, used: int) -> Counts:
        """Counts of every class and level, of shape (classes, levels, 512), without raw bits."""
        shift = 0 if model == DIFFERENCE else raw_shift(self.kind, model)
        cells_count = (len(bounds) + 1) * used
        out = np.zeros((cells_count, COLUMNS))
        # The last table takes what another pass counts.
        step = TABLES_MAX if cells_count <= TABLES_MAX else TABLES_MAX - 1
        for first in range(0, cells_count, step):
            here = range(first, min(first + step, cells_count))
            tables_count = len(here) + (len(here) < cells_count)
            cells = tuple(
                cell - first if cell in here else tables_count - 1 for cell in range(cells_count)
            )
            table = CodeTable(
                kind=self.kind,
                model=model,
                bounds=tuple(bounds),
                levels=used,
                cells=cells,
                tables=(Table(shift=shift, symbols=(0,), frequencies=(SCALE,)),) * tables_count,
                level_tables=(),
            )
            counts = coder.histogram(table, self.source, self.target, levels)
            out[first : here.stop] = counts[: len(here)]
        return out.reshape(len(bounds) + 1, used, COLUMNS)

    def _cells(self, grid: Counts, model: int, used: int) -> list[_Cluster]:
        """A cluster for each cell that occurs."""
        out = []
        for number, level in zip(*np.nonzero(grid.sum(axis=-1)), strict=True):
            counts, shift = grid[number, level], 0
            if model == DIFFERENCE:
                counts, shift = _best_shift(counts, self.kind)
            else:
                shift = raw_shift(self.kind, model)
            out.append(_Cluster(cells=[(int(number), int(level))], counts=counts, shift=shift))
        return out

    def _finished(
        self,
        model: int,
        bounds: Sequence[int],
        cells: Sequence[int],
        clusters: Sequence[_Cluster],
        leveled: _Leveled | None = None,
    ) -> Fit | None:
        """The structure with frequencies counted exactly."""
        levels = leveled.levels if leveled is not None else None
        shifts = [clusters[number].shift for number in dict.fromkeys(cells)]
        order = {number: new for new, number in enumerate(dict.fromkeys(cells))}
        empty = tuple(Table(shift=one, symbols=(0,), frequencies=(SCALE,)) for one in shifts)
        table = CodeTable(
            kind=self.kind,
            model=model,
            bounds=tuple(bounds),
            levels=leveled.used if leveled is not None else 1,
            cells=tuple(order[number] for number in cells),
            tables=empty,
            level_tables=(),
        )
        counts = coder.histogram(table, self.source, self.target, levels).astype(np.float64)
        if counts[:, _columns(table) :].any() or (np.count_nonzero(counts, axis=1) > SYMBOLS_MAX).any():
            return None
        table = _with_frequencies(table, counts, None if levels is None else transitions(levels))
        bits = total(counts, code_bits(table)) + total(counts, raw_bits(table))
        if levels is not None:
            bits += total(transitions(levels), level_costs(table))
        return Fit(
            table=table,
            inverse_means=leveled.inverse_means if leveled is not None else None,
            levels=levels,
            payload_bits=bits,
            table_bytes=len(pack(table)) + 8,
        )


def _classes(
    bounds: Sequence[int], clusters: Sequence[_Cluster], used: int
) -> tuple[list[int], list[int]]:
    """Bounds of classes that differ, and each cell's cluster. A cell that does not occur goes
    with the nearest level of its class that does."""
    rows: list[list[int]] = []
    at = {cell: number for number, one in enumerate(clusters) for cell in one.cells}
    for number in range(len(bounds) + 1):
        known = [level for level in range(used) if (number, level) in at]
        if known:
            nearest = [min(known, key=lambda one: abs(one - level)) for level in range(used)]
            rows.append([at[number, level] for level in nearest])
        else:
            rows.append(rows[-1] if rows else [0] * used)
    kept, cells = [], rows[0][:]
    for bound, before, row in zip(bounds, rows, rows[1:], strict=False):
        if row != before:
            kept.append(bound)
            cells += row
    return kept, cells


def _with_frequencies(table: CodeTable, counts: Counts, steps: Counts | None) -> CodeTable:
    tables = []
    for one, row in zip(table.tables, counts, strict=True):
        spare = _spare(table, one, row)
        symbols, frequencies = frequencies_of(row, spare)
        tables.append(Table(shift=one.shift, symbols=symbols, frequencies=frequencies))
    level_tables = []
    for row in steps[: table.levels] if steps is not None else ():
        # Every level may follow every other, where any followed at all.
        spare = list(range(table.levels)) if row.any() else []
        symbols, frequencies = frequencies_of(row, spare)
        level_tables.append(Table(shift=0, symbols=symbols, frequencies=frequencies))
    return CodeTable(
        kind=table.kind,
        model=table.model,
        bounds=table.bounds,
        levels=table.levels,
        cells=table.cells,
        tables=tuple(tables),
        level_tables=tuple(level_tables),
    )


def _spare(table: CodeTable, one: Table, counts: Counts) -> list[int]:
    """Symbols that did not occur, the likeliest first, as many as may be afforded."""
    sum_ = counts.sum()
    occurring = np.flatnonzero(counts)
    if not len(occurring):
        return []
    budget = _SPARE_SHARE * float(entropy_bits(counts)) / (sum_ * _SPARE_BITS)
    last = int(occurring[-1])
    first = 0 if table.model == DIFFERENCE else int(occurring[0])
    order = [*range(first, last), *range(last + 1, min(last + 17, COLUMNS - 1))]
    if table.model != DIFFERENCE:
        order += range(max(0, first - 8), first)
    room = min(SYMBOLS_MAX - len(occurring), int(budget) + 2)
    found = [
        symbol
        for symbol in order
        if not counts[symbol] and is_possible(table.kind, table.model, one.shift, symbol)
    ]
    return found[: max(0, room)]


def frequencies_of(counts: Counts, spare: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Symbols and frequencies, at least 1 for each that occurs or is spare."""
    wanted = counts > 0
    wanted[list(spare)] = True
    symbols = np.flatnonzero(wanted)
    if not len(symbols):
        return (0,), (SCALE,)
    here = counts[symbols]
    sum_ = max(float(here.sum()), 1.0)
    found = np.maximum(1, np.floor(here * SCALE / sum_ + 0.5)).astype(np.int64)
    missing = SCALE - int(found.sum())
    while missing:
        # One step up where it gains most, or down where it costs least.
        if missing > 0:
            gain = here * np.log2((found + 1) / found)
            best = int(gain.argmax())
            found[best] += 1
            missing -= 1
        else:
            loss = np.where(found > 1, here * np.log2(found / np.maximum(found - 1, 1)), np.inf)
            best = int(loss.argmin())
            found[best] -= 1
            missing += 1
    return tuple(int(one) for one in symbols), tuple(int(one) for one in found)
