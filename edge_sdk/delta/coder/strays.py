"""Elements whose symbols a table lacks, and the groups of 256 that hold them. Nothing here is
part of the format.

Such a group takes the level of all symbols. A pass of NumPy over all elements finds groups
that may hold one, the backend's histogram says which do.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import coder, numeric
from edge_sdk.delta.coder import twin
from edge_sdk.delta.coder.estimate import Counts, Levels
from edge_sdk.delta.coder.tables import LEVEL_ELEMENTS, CodeTable
from edge_sdk.delta.numeric import Bits

_PARTS = 8


def lacks(counts: Counts, code_bits: Counts) -> NDArray[np.bool_]:
    """Where a symbol occurs that its table lacks, by table and column."""
    return (counts > 0) & np.isinf(code_bits)


def stray_groups(
    table: CodeTable,
    source: Bits,
    target: Bits,
    *,
    code_bits: Counts,
    lacking: NDArray[np.bool_],
    levels: Levels,
    groups_max: int,
) -> NDArray[np.intp] | None:
    """Numbers of the groups that hold what ``lacking`` says; None where they are too many.

    ``table`` is one of differences and has levels.
    """
    suspects = _suspects(table, lacking, source, target)
    whole = len(target) // LEVEL_ELEMENTS
    # The last group may be shorter: it stands alone, behind the others.
    inner = suspects[suspects < whole]
    rows = (inner[:, None] * LEVEL_ELEMENTS + np.arange(LEVEL_ELEMENTS)).ravel()
    found = []
    for numbers, part in (
        (inner, rows),
        (suspects[len(inner) :], slice(whole * LEVEL_ELEMENTS, None)),
    ):
        if len(numbers):
            here = _holding(table, code_bits, source[part], target[part], levels[numbers])
            found.append(numbers[here])
    groups = np.concatenate(found) if found else np.zeros(0, np.intp)
    return np.sort(groups) if len(groups) <= groups_max else None


def _suspects(
    table: CodeTable, lacking: NDArray[np.bool_], source: Bits, target: Bits
) -> NDArray[np.intp]:
    """Groups with an element as large as one that is lacking, whatever its level."""
    kind = table.kind
    least = np.full(len(table.tables), np.inf)
    for number in np.flatnonzero(lacking.any(axis=1)):
        size = float(twin.SIZES[np.flatnonzero(lacking[number])].min())
        # Rounding down makes negative quotients one larger.
        least[number] = max(0.0, size - 1) * 2.0 ** table.tables[number].shift
    cells = np.array(table.cells).reshape(-1, table.levels)
    classes = np.searchsorted(table.bounds, np.arange(twin.KEYS), side="right")
    by_key = least[cells].min(axis=1)[classes]
    highest = 2 ** (8 * kind.width_bytes) - 1
    limits = np.array(
        [min(int(one), highest) if one < np.inf else highest for one in by_key], kind.bits
    )
    difference = numeric.difference(source, target, kind)
    sizes = np.minimum(difference, np.negative(difference))
    large = sizes >= limits[twin.keys(kind, source)]
    return np.unique(np.flatnonzero(large) // LEVEL_ELEMENTS)


def _holding(
    table: CodeTable, code_bits: Counts, source: Bits, target: Bits, levels: Levels
) -> list[int]:
    """Which of the groups lack a symbol."""
    found = []
    waiting = [(0, len(levels))]
    while waiting:
        start, end = waiting.pop()
        part = slice(start * LEVEL_ELEMENTS, end * LEVEL_ELEMENTS)
        counts = coder.histogram(table, source[part], target[part], levels[start:end])
        if not lacks(counts.astype(np.float64), code_bits).any():
            continue
        if end - start == 1:
            found.append(start)
        else:
            step = -(-(end - start) // _PARTS)
            waiting += [(at, min(at + step, end)) for at in range(start, end, step)]
    return found
