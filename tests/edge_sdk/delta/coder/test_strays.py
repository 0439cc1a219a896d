"""Groups with elements that a table lacks are found, wherever they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta import coder
from edge_sdk.delta.coder.estimate import code_bits
from edge_sdk.delta.coder.strays import lacks, stray_groups
from edge_sdk.delta.coder.tables import DIFFERENCE, CodeTable, Table
from edge_sdk.delta.numeric import KINDS
from tests.support.deltas import weights

EVERY = Table(shift=0, symbols=tuple(range(250)), frequencies=(4096 - 249, *[1] * 249))
# Zero, plus and minus one step, nothing else.
FEW = Table(shift=1, symbols=(0, 1, 2), frequencies=(4000, 48, 48))


def table_of(kind: int) -> CodeTable:
    bounds = (110,) if KINDS[kind].is_float else ()
    return CodeTable(
        kind=KINDS[kind],
        model=DIFFERENCE,
        bounds=bounds,
        levels=2,
        cells=(0, 1) * (len(bounds) + 1),
        tables=(FEW, EVERY),
        level_tables=(EVERY, EVERY),
    )


@pytest.mark.parametrize("kind", [0, 1, 2, 4, 5, 6], ids=lambda kind: KINDS[kind].name)
@given(places=st.sets(st.integers(0, 2999), max_size=6))
def test_exactly_the_groups_with_strays_are_found(kind: int, places: set[int]) -> None:
    """At any place, in a short last group too, whatever the kind; at most as many as wanted."""
    table = table_of(kind)
    source = weights(KINDS[kind].name, 3000, 1)
    source[:20] = source[20:40]
    target = source.copy()
    target[list(places)] += np.array(40, target.dtype)
    levels = np.zeros(12, np.uint8)
    bits = code_bits(table)
    counts = coder.histogram(table, source, target, levels).astype(np.float64)
    lacking = lacks(counts, bits)
    wanted = sorted({place // 256 for place in places})
    assert lacking.any() == bool(wanted)
    options = {"code_bits": bits, "lacking": lacking, "levels": levels}
    found = stray_groups(table, source, target, **options, groups_max=6)
    assert found is not None
    assert found.tolist() == wanted
    if wanted:
        fewer = len(wanted) - 1
        assert stray_groups(table, source, target, **options, groups_max=fewer) is None
