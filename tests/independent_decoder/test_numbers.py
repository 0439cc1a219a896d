"""FORMAT.md is enough for every code: streams of ours are decoded from the text alone."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.delta import coder
from edge_sdk.delta.coder.tables import ALONE, CodeTable, pack
from tests.independent_decoder import code_tables, streams
from tests.independent_decoder.leans import SIZES
from tests.independent_decoder.test_predictions import all_symbols, lean_bytes
from tests.support.code_tables import fitting, shapes
from tests.support.deltas import tuned, weights


@pytest.mark.parametrize("far", [False, True])
@settings(max_examples=60)
@given(
    shape=shapes(models=range(4)),
    count=st.sampled_from([0, 1, 40, 600]),
    seed=st.integers(0, 1 << 30),
)
def test_streams_of_any_shape_agree(far: bool, shape: CodeTable, count: int, seed: int) -> None:
    """Kinds, models, classes, levels, lanes; targets near their source, and anything."""
    chance = np.random.default_rng(seed)
    source = weights(shape.kind.name, count, seed)
    target = tuned(source, seed + 1)
    if far:
        target = chance.integers(0, 2**64, count, np.uint64).astype(shape.kind.bits)
    levels = None
    if shape.levels > 1:
        levels = chance.integers(0, shape.levels, -(-count // 256)).astype(np.uint8)
    given_source = None if shape.model == ALONE else source
    table = fitting(shape, given_source, target, levels)
    if table is None:
        return
    lanes = int(chance.choice([1, 8, 32]))
    made = coder.encode(table, given_source, target, levels, lanes)
    assert made is not None
    before = None if given_source is None else given_source.astype(np.uint64)
    found = streams.elements(code_tables.CodeTable(pack(table)), before, count, lanes, made)
    assert found.tolist() == target.tolist()


@pytest.mark.parametrize("element", range(8))
@pytest.mark.parametrize("leveled", [False, True])
def test_streams_by_lean_agree(element: int, leveled: bool) -> None:
    """Every kind of element with leans of any size, classes and levels; targets near and far."""
    chance = np.random.default_rng(element)
    table = all_symbols(element, random.Random(element))
    count, levels = 600, None
    if leveled:
        every = replace(table.tables[0], shift=0, symbols=(0, 1), frequencies=(2048, 2048))
        cells = tuple(cell for one in table.cells for cell in (one, max(one - 1, 0)))
        table = replace(table, levels=2, cells=cells, level_tables=(every,) * 2)
        levels = np.array([1, 0, 1], np.uint8)
    source = weights(table.kind.name, count, element)
    target = tuned(source, 1)
    target[::7] = chance.integers(0, 2**64, count, np.uint64).astype(source.dtype)[::7]
    leans = chance.choice([0, 2.0**-10, *SIZES, 700], count) * chance.choice([-1, 1], count)
    made = coder.encode(table, source, target, levels, 8, leans=lean_bytes(leans))
    assert made is not None
    read = code_tables.CodeTable(pack(table))
    found = streams.elements(read, source.astype(np.uint64), count, 8, made, leans)
    assert found.tolist() == target.tolist()
