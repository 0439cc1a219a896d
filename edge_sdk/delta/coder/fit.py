"""Code tables made for given elements: which classes and levels, how many raw bits, what
frequencies. Nothing here is part of the format.

Elements are only passed over by the backend; all else is done on histograms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import coder
from edge_sdk.delta.coder.estimate import (
    Cluster,
    Counts,
    Levels,
    code_bits,
    columns_of,
    entropy_bits,
    frequencies_of,
    level_costs,
    merged_clusters,
    raw_bits,
    shifted,
    sign_bits,
    total,
    transitions,
)
from edge_sdk.delta.coder.leveling import ByCode, ByMean, BySize, Joined, Leveling
from edge_sdk.delta.coder.tables import (
    ALONE,
    CLASSES_MAX,
    DIFFERENCE,
    DIFFERENCES,
    GIVEN,
    LEVEL_ELEMENTS,
    LEVELS_MAX,
    SCALE,
    SYMBOLS_MAX,
    TABLES_MAX,
    UNREFLECTED,
    CodeTable,
    Table,
    is_possible,
    pack,
    raw_shift,
    symbol_limit,
)
from edge_sdk.delta.coder.twin import COLUMNS, EXTRA_BITS
from edge_sdk.delta.numeric import Bits, ElementKind

_INVERSE_ONE = 1 << 26
# Keys of fewer elements join a neighbour at once.
_KEY_ELEMENTS_MIN = 48
# Symbols that did not occur get a place too, since other records of a tensor may have them,
# until they take this share of the others' bits.
_SPARE_SHARE = 0.001
_SPARE_BITS = 1.45 / SCALE
_SPARE_BITS_MIN = 32
_LEVEL_ELEMENTS_MIN = 1 << 13
_LEVEL_TABLE_BITS = 40
# Elements that are wider have too many symbols.
_CODED_BYTES_MAX = 4
# A look at so many tells which way differences go.
_SIGN_ELEMENTS = 1 << 16
# What signs must come down to: chance alone is not worth the mirror.
_UNREFLECTED_SHARE = 0.98
# What stands in place of a cluster's number for the table of all symbols.
_WIDE = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A code table and what it costs on the elements that it was made for.

    ``loss_share``: of the bits of its symbols, what frequencies lose by being rounded.
    ``leveling`` finds levels of other elements; None without levels.
    With ``escape`` the last level has a table of all symbols, for elements that others lack.
    """

    table: CodeTable
    leveling: Leveling | None
    levels: Levels | None
    escape: bool
    payload_bits: float
    loss_share: float
    table_bytes: int

    @property
    def cost_bits(self) -> float:
        return self.payload_bits + 8 * self.table_bytes


@dataclass(frozen=True, slots=True)
class _Leveled:
    """Levels of elements, all below ``used``, and what they were made with."""

    levels: Levels
    leveling: Leveling | None
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """``rows``: clusters by class and level; ``wide``: counts of the table of all symbols, if
    there is to be one; ``cost_bits``: about."""

    bounds: Sequence[int]
    rows: Sequence[Sequence[int]]
    clusters: Sequence[Cluster]
    leveled: _Leveled
    wide: Counts | None
    cost_bits: float


@dataclass(slots=True, kw_only=True)
class Fitter:
    """Makes code tables for one record's elements; keeps what several models need.

    ``lasting`` tells that other records will want the tables too.
    """

    kind: ElementKind
    source: Bits | None
    target: Bits
    lasting: bool
    _scales: tuple[NDArray[np.uint64], NDArray[np.uint64]] | None = field(default=None, init=False)

    def fit(self, model: int) -> Fit | None:
        """The best table of a model that was found; None where it has too many symbols."""
        bounds = self._first_bounds(model)
        leveled = _Leveled(np.zeros(-(-len(self.target) // 256), np.uint8), None, 1)
        plan = self._plan(model, bounds, leveled)
        for leveling in self._levelings(model):
            found = leveling.levels(self.source, self.target)
            leveled = _Leveled(found, leveling, int(found.max()) + 1)
            if leveled.used > 1:
                other = self._plan(model, plan.bounds, leveled)
                plan = min(plan, other, key=lambda one: one.cost_bits)
        return self._finished(model, plan)

    def difference_model(self) -> int:
        """Of the models of differences the one that signs cost less in."""
        if not self.kind.is_float or self.source is None:
            return DIFFERENCE
        start = max(0, len(self.target) - _SIGN_ELEMENTS) // 2
        part = slice(start, start + _SIGN_ELEMENTS)
        found = []
        for model in (DIFFERENCE, UNREFLECTED):
            table = CodeTable(
                kind=self.kind,
                model=model,
                bounds=(),
                levels=1,
                cells=(0,),
                tables=(Table(shift=0, symbols=(0,), frequencies=(SCALE,)),),
                level_tables=(),
            )
            counts = coder.histogram(table, self.source[part], self.target[part], None)
            found.append(sign_bits(counts[0].astype(np.float64)))
        reflected, unreflected = found
        return UNREFLECTED if unreflected < _UNREFLECTED_SHARE * reflected else DIFFERENCE

    def least_bits(self) -> float:
        """What elements take at least, given their source: with a table for each class, which
        is not counted."""
        found = []
        for model in (DIFFERENCE, GIVEN) if self.kind.is_float else (DIFFERENCE,):
            bounds = self._first_bounds(model)
            leveled = _Leveled(np.zeros(-(-len(self.target) // LEVEL_ELEMENTS), np.uint8), None, 1)
            counts = self._grid(model, bounds, leveled).reshape(-1, COLUMNS)
            bits = float(entropy_bits(counts).sum())
            if model in DIFFERENCES:
                bits += float((counts @ EXTRA_BITS).sum())
            else:
                bits += len(self.target) * raw_shift(self.kind, model)
            found.append(bits)
        return min(found)

    def _plan(self, model: int, bounds: Sequence[int], leveled: _Leveled) -> _Plan:
        """With classes that are merged from those of ``bounds``."""
        grid = self._grid(model, bounds, leveled)
        clusters = merged_clusters(self._cells(grid, model), model, TABLES_MAX - 1)
        classes, rows = _classes(bounds, clusters, leveled.used)
        leveled, rows = _joined(leveled, rows)
        bits = sum(one.cost_bits for one in clusters)
        if leveled.used > 1:
            steps = transitions(leveled.levels)
            bits += float(entropy_bits(steps).sum()) + _LEVEL_TABLE_BITS * leveled.used
        escape = model in DIFFERENCES and self.lasting and leveled.used < LEVELS_MAX
        return _Plan(
            bounds=classes,
            rows=rows,
            clusters=clusters,
            leveled=leveled,
            wide=grid.sum(axis=(0, 1)) if escape else None,
            cost_bits=bits,
        )

    def _levelings(self, model: int) -> Iterator[Leveling]:
        """Those that may be worth their levels."""
        if len(self.target) < _LEVEL_ELEMENTS_MIN:
            return
        if model in DIFFERENCES:
            yield self._by_size()
        elif model == ALONE:
            yield ByMean.of(self.kind, self.target)
        unpredicted = model == ALONE or not (self.kind.is_float or np.any(self.source))
        if unpredicted and self.kind.width_bytes <= _CODED_BYTES_MAX:
            first = ByMean.of(self.kind, self.target).levels(None, self.target)
            yield ByCode.of(self.kind, self.target, first)

    def _by_size(self) -> BySize:
        counts, sums = self._found_scales()
        inverse = (counts * np.uint64(_INVERSE_ONE)) // np.maximum(sums, np.uint64(1))
        means = np.minimum(inverse, np.uint64(2**32 - 1)).astype(np.uint32)
        return BySize(kind=self.kind, inverse_means=means)

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

    def _grid(self, model: int, bounds: Sequence[int], leveled: _Leveled) -> Counts:
        """Counts of every class and level, of shape (classes, levels, 512), without raw bits."""
        shift = 0 if model in DIFFERENCES else raw_shift(self.kind, model)
        cells_count = (len(bounds) + 1) * leveled.used
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
                levels=leveled.used,
                cells=cells,
                tables=(Table(shift=shift, symbols=(0,), frequencies=(SCALE,)),) * tables_count,
                level_tables=(),
            )
            counts = self._histogram(table, leveled)
            out[first : here.stop] = counts[: len(here)]
        return out.reshape(len(bounds) + 1, leveled.used, COLUMNS)

    def _histogram(self, table: CodeTable, leveled: _Leveled) -> Counts:
        levels = leveled.levels if table.levels > 1 else None
        source = None if table.model == ALONE else self.source
        return coder.histogram(table, source, self.target, levels).astype(np.float64)

    def _cells(self, grid: Counts, model: int) -> list[Cluster]:
        """A cluster for each cell that occurs."""
        places = [
            (int(one), int(level))
            for one, level in zip(*np.nonzero(grid.sum(axis=-1)), strict=True)
        ]
        rows = [grid[place] for place in places]
        if model in DIFFERENCES:
            found = shifted(rows, 8 * self.kind.width_bytes)
        else:
            found = [(row, raw_shift(self.kind, model)) for row in rows]
        return [
            Cluster(cells=[place], counts=counts, shift=shift)
            for place, (counts, shift) in zip(places, found, strict=True)
        ]

    def _finished(self, model: int, plan: _Plan) -> Fit | None:
        """The plan with frequencies counted exactly."""
        leveled, wide = plan.leveled, plan.wide
        cells = [
            number for row in plan.rows for number in (*row, *([_WIDE] if wide is not None else ()))
        ]
        order = {number: new for new, number in enumerate(dict.fromkeys(cells))}
        shifts = [0 if number == _WIDE else plan.clusters[number].shift for number in order]
        shape = CodeTable(
            kind=self.kind,
            model=model,
            bounds=tuple(plan.bounds),
            levels=leveled.used + (wide is not None),
            cells=tuple(order[number] for number in cells),
            tables=tuple(Table(shift=one, symbols=(0,), frequencies=(SCALE,)) for one in shifts),
            level_tables=(),
        )
        counts = self._histogram(shape, leveled)
        if counts[:, columns_of(shape) :].any():
            return None
        if (np.count_nonzero(counts, axis=1) > SYMBOLS_MAX).any():
            return None
        if wide is not None:
            counts[order[_WIDE]] = _widened(wide, shape)
        steps = transitions(leveled.levels)
        table = _with_frequencies(shape, counts, steps, spare=self.lasting)
        if wide is not None:
            counts[order[_WIDE]] = 0
        symbol_bits = total(counts, code_bits(table))
        loss_bits = symbol_bits - float(entropy_bits(counts).sum())
        bits = symbol_bits + total(counts, raw_bits(table))
        if table.levels > 1:
            bits += total(steps, level_costs(table)) + 8 * 5
        return Fit(
            table=table,
            leveling=leveled.leveling,
            levels=leveled.levels if table.levels > 1 else None,
            escape=wide is not None,
            payload_bits=bits,
            loss_share=max(0.0, loss_bits) / max(1.0, symbol_bits),
            table_bytes=len(pack(table)) + 8,
        )


def _joined(leveled: _Leveled, rows: list[list[int]]) -> tuple[_Leveled, list[list[int]]]:
    """Levels whose tables are the same in every class as one."""
    columns = list(zip(*rows, strict=True))
    kept = list(dict.fromkeys(columns))
    if leveled.leveling is None or len(kept) == leveled.used:
        return leveled, rows
    numbers = np.array([kept.index(one) for one in columns], np.uint8)
    leveling = Joined(leveling=leveled.leveling, numbers=numbers)
    joined = _Leveled(numbers[leveled.levels], leveling, len(kept))
    return joined, [list(row) for row in zip(*kept, strict=True)]


def _widened(counts: Counts, shape: CodeTable) -> Counts:
    """Counts with all symbols that can be, as far as a table has room."""
    limit = min(symbol_limit(shape.kind, shape.model, 0), SYMBOLS_MAX)
    out = np.zeros(COLUMNS)
    out[:limit] = counts[:limit] * 1000 + 1e-3
    possible = [is_possible(shape.kind, shape.model, 0, symbol) for symbol in range(limit)]
    out[:limit][np.logical_not(possible)] = 0
    return out


def _classes(
    bounds: Sequence[int], clusters: Sequence[Cluster], used: int
) -> tuple[list[int], list[list[int]]]:
    """Bounds of classes that differ, and each cell's cluster by class. A cell that does not
    occur goes with the nearest level of its class that does."""
    rows: list[list[int]] = []
    at = {cell: number for number, one in enumerate(clusters) for cell in one.cells}
    for number in range(len(bounds) + 1):
        known = [level for level in range(used) if (number, level) in at]
        if known:
            nearest = [min((abs(one - level), one) for one in known)[1] for level in range(used)]
            rows.append([at[number, level] for level in nearest])
        else:
            rows.append(rows[-1] if rows else [0] * used)
    kept, differing = [], [rows[0]]
    for bound, before, row in zip(bounds, rows, rows[1:], strict=False):
        if row != before:
            kept.append(bound)
            differing.append(row)
    return kept, differing


def _with_frequencies(table: CodeTable, counts: Counts, steps: Counts, *, spare: bool) -> CodeTable:
    tables = []
    for one, row in zip(table.tables, counts, strict=True):
        symbols, frequencies = frequencies_of(row, _spare(table, one, row) if spare else ())
        tables.append(Table(shift=one.shift, symbols=symbols, frequencies=frequencies))
    level_tables = []
    usual = int(steps.sum(axis=0).argmax())
    every = range(table.levels)
    for row in steps[: table.levels] if table.levels > 1 else ():
        followed = row.copy()
        followed[usual] += not row.any()
        symbols, frequencies = frequencies_of(followed, every)
        level_tables.append(Table(shift=0, symbols=symbols, frequencies=frequencies))
    return replace(table, tables=tuple(tables), level_tables=tuple(level_tables))


def _spare(table: CodeTable, one: Table, counts: Counts) -> list[int]:
    """Symbols that did not occur, the likeliest first, as many as may be afforded."""
    sum_ = counts.sum()
    occurring = np.flatnonzero(counts)
    if not len(occurring):
        return []
    budget = _SPARE_SHARE * float(entropy_bits(counts)) / (sum_ * _SPARE_BITS)
    last = int(occurring[-1])
    first = 0 if table.model in DIFFERENCES else int(occurring[0])
    order = [*range(first, last), *range(last + 1, min(last + 17, COLUMNS - 1))]
    if table.model not in DIFFERENCES:
        order += range(max(0, first - 8), first)
    few = _SPARE_BITS_MIN / (sum_ * _SPARE_BITS)
    room = int(min(SYMBOLS_MAX - len(occurring), max(budget, few) + 2))
    found = (
        symbol
        for symbol in order
        if not counts[symbol] and is_possible(table.kind, table.model, one.shift, symbol)
    )
    return list(islice(found, max(0, room)))
