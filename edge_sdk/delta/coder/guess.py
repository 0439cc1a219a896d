"""A first guess of what elements cost, before a code table is fitted to them. Nothing here is
part of the format."""

from __future__ import annotations

import math

import numpy as np

from edge_sdk.delta import coder
from edge_sdk.delta.coder.estimate import columns_of, row_costs
from edge_sdk.delta.coder.tables import (
    ALONE,
    CLASSES_MAX,
    DIFFERENCE,
    SCALE,
    CodeTable,
    Table,
    raw_shift,
)
from edge_sdk.delta.numeric import Bits, ElementKind

# Weights are mostly below 1: of 8 bits these are their exponents.
_HIGHEST_KEY = 127


def guessed_bits(kind: ElementKind, source: Bits | None, target: Bits) -> float:
    """Of elements predicted by ``source`` or alone, whichever is less; tables included."""
    alone = _bits(kind, ALONE, (), None, target)
    if source is None:
        return alone
    classes = range(1, CLASSES_MAX)
    if kind.mantissa_bits is not None and 8 * kind.width_bytes - kind.mantissa_bits > 6:
        classes = range(_HIGHEST_KEY - CLASSES_MAX + 1, _HIGHEST_KEY)
    differences = _bits(kind, DIFFERENCE, tuple(classes) if kind.is_float else (), source, target)
    return min(differences, alone)


def _bits(
    kind: ElementKind, model: int, bounds: tuple[int, ...], source: Bits | None, target: Bits
) -> float:
    """With a table for each class; infinite where symbols are too many for one."""
    shift = raw_shift(kind, model) if model == ALONE else 0
    classes = len(bounds) + 1
    table = CodeTable(
        kind=kind,
        model=model,
        bounds=bounds,
        levels=1,
        cells=tuple(range(classes)),
        tables=(Table(shift=shift, symbols=(0,), frequencies=(SCALE,)),) * classes,
        level_tables=(),
    )
    counts = coder.histogram(table, source, target, None).astype(np.float64)
    if counts[:, columns_of(table) :].any():
        return math.inf
    occurring = counts[counts.any(axis=1)]
    return float(row_costs(occurring, np.full(len(occurring), shift), model).sum())
