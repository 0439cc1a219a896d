"""Code tables of every shape, for property tests."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from hypothesis import strategies as st

from edge_sdk.delta import coder
from edge_sdk.delta.coder.fit import frequencies_of
from edge_sdk.delta.coder.tables import (
    ALONE,
    DIFFERENCE,
    DIFFERENCES,
    GIVEN,
    LEANING,
    LEVELS_MAX,
    UNREFLECTED,
    CodeTable,
    Table,
    is_possible,
    raw_shift,
)
from edge_sdk.delta.numeric import KINDS, ElementKind

# Those that backends know, and all.
KNOWN_MODELS = (DIFFERENCE, GIVEN, ALONE)
MODELS = (*KNOWN_MODELS, UNREFLECTED, LEANING)


def one_table(
    kind: ElementKind,
    model: int,
    symbols: Sequence[int],
    frequencies: Sequence[int],
    shift: int | None = None,
) -> CodeTable:
    """One class, one level, one table."""
    raw = 0 if model in DIFFERENCES else raw_shift(kind, model)
    one = Table(
        shift=raw if shift is None else shift,
        symbols=tuple(symbols),
        frequencies=tuple(frequencies),
    )
    return CodeTable(
        kind=kind, model=model, bounds=(), levels=1, cells=(0,), tables=(one,), level_tables=()
    )


@st.composite
def shapes(draw: st.DrawFn, *, models: Collection[int]) -> CodeTable:
    """Any kind, one of the models, classes, levels, cells and shifts; each table knows symbol 0
    alone."""
    kind = draw(st.sampled_from(KINDS))
    possible = [one for one in models if kind.is_float or one not in {GIVEN, UNREFLECTED}]
    model = draw(st.sampled_from(possible))
    bounds: list[int] = []
    if model == LEANING or (kind.is_float and model != ALONE):
        bounds = sorted(draw(st.sets(st.integers(1, 255), max_size=5)))
    levels = draw(st.integers(1, LEVELS_MAX))
    drawn = draw(
        st.lists(
            st.integers(0, 4),
            min_size=(len(bounds) + 1) * levels,
            max_size=(len(bounds) + 1) * levels,
        )
    )
    order = {number: new for new, number in enumerate(dict.fromkeys(drawn))}
    shift = st.integers(0, 8 * kind.width_bytes - 1)
    shifts = [draw(shift) if model in DIFFERENCES else raw_shift(kind, model) for _ in order]
    every = Table(shift=0, symbols=tuple(range(levels)), frequencies=_even(levels))
    return CodeTable(
        kind=kind,
        model=model,
        bounds=tuple(bounds),
        levels=levels,
        cells=tuple(order[number] for number in drawn),
        tables=tuple(Table(shift=one, symbols=(0,), frequencies=(4096,)) for one in shifts),
        level_tables=(every,) * levels if levels > 1 else (),
    )


@st.composite
def code_tables(draw: st.DrawFn) -> CodeTable:
    """Any code table."""
    shape = draw(shapes(models=MODELS))
    tables = []
    for one in shape.tables:
        chosen = draw(st.sets(st.integers(0, 80), min_size=1, max_size=20))
        symbols = sorted(
            symbol
            for symbol in chosen | {0}
            if is_possible(shape.kind, shape.model, one.shift, symbol)
        )
        tables.append(
            Table(
                shift=one.shift,
                symbols=tuple(symbols),
                frequencies=_even(len(symbols)),
            )
        )
    return _with(shape, tables)


def fitting(
    shape: CodeTable, source: np.ndarray | None, target: np.ndarray, levels: np.ndarray | None
) -> CodeTable | None:
    """The shape with a frequency for each symbol that occurs; None where these are too many."""
    counts = coder.histogram(shape, source, target, levels).astype(np.float64)
    if shape.kind.name == "float64" and shape.model not in DIFFERENCES and counts[:, 511].any():
        return None
    tables = []
    for one, row in zip(shape.tables, counts, strict=True):
        if np.count_nonzero(row) > 256:
            return None
        symbols, frequencies = frequencies_of(row, [])
        tables.append(Table(shift=one.shift, symbols=symbols, frequencies=frequencies))
    return _with(shape, tables)


def _even(count: int) -> tuple[int, ...]:
    return (4096 - count + 1, *(1 for _ in range(count - 1)))


def _with(shape: CodeTable, tables: Sequence[Table]) -> CodeTable:
    return CodeTable(
        kind=shape.kind,
        model=shape.model,
        bounds=shape.bounds,
        levels=shape.levels,
        cells=shape.cells,
        tables=tuple(tables),
        level_tables=shape.level_tables,
    )
