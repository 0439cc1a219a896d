"""Codes by leans: symbols and keys as FORMAT.md says, by plain integers, element for element."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta import coder, numeric
from edge_sdk.delta.coder import twin
from edge_sdk.delta.coder.leaning import (
    LeaningKind,
    as_written,
    leaning_kind,
    standing_in,
    standing_source,
    standing_target,
    target_of,
)
from edge_sdk.delta.coder.tables import DIFFERENCE, LEANING, CodeTable, symbol_limit
from edge_sdk.delta.numeric import KINDS, ElementKind
from tests.support.code_tables import fitting, one_table, shapes
from tests.support.deltas import EDGE_BITS, tuned, weights

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda one: one.name)


def elements(
    kind: ElementKind, count: int, seed: int, *, near: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, target and leans: of any bits, edge values first, or a fine-tune."""
    chance = np.random.default_rng(seed)
    source = weights(kind.name, count, seed)
    target = tuned(source, seed + 1, step=3)
    if not near:
        target = chance.integers(0, 2**64, count, np.uint64).astype(kind.bits)
        edges = np.array(EDGE_BITS[kind.name], kind.bits)[:count]
        source, target = source.copy(), target.copy()
        target[: len(edges)], source[: len(edges)] = chance.permutation(edges), edges
    leans = chance.integers(0, 16, count) | chance.choice([0, 0x80], count)
    return source, target, leans.astype(np.uint8)


@kinds
@given(seed=st.integers(0, 1 << 30), near=st.booleans())
def test_what_stands_in_for_elements_tells_them(kind: ElementKind, seed: int, near: bool) -> None:
    """Any target comes back, whatever its prediction and however that leans."""
    source, target, leans = elements(kind, 70, seed, near=near)
    standing = standing_target(kind, source, target, leans)
    stood_in = standing_source(kind, source, leans)
    assert np.array_equal(target_of(kind, source, leans, stood_in, standing), target)


@kinds
@given(seed=st.integers(0, 1 << 30), near=st.booleans())
def test_differences_and_keys_are_those_of_the_format(
    kind: ElementKind, seed: int, near: bool
) -> None:
    """Computed here with integers of Python."""
    source, target, leans = elements(kind, 70, seed, near=near)
    other = leaning_kind(kind)
    stood_in = standing_source(kind, source, leans)
    standing = standing_target(kind, source, target, leans)
    found = numeric.difference(stood_in, standing, other).view(f"<i{other.width_bytes}")
    width = 8 * kind.width_bytes

    def place(bits: int) -> int:
        if not kind.is_float:
            return bits
        return ~bits % 2**width if bits >> (width - 1) else bits | 1 << (width - 1)

    def key(bits: int, lean: int) -> int:
        if kind.mantissa_bits is None:
            return lean & 15
        exponent_bits = width - 1 - kind.mantissa_bits
        field = (bits >> kind.mantissa_bits) % 2**exponent_bits
        above = field - (2 ** (exponent_bits - 1) - 16)
        return 16 * min(max(above, 0), 15) + (lean & 15)

    for one in zip(source.tolist(), target.tolist(), leans.tolist(), found.tolist(), strict=True):
        before, after, lean, difference = one
        wanted = place(after) - place(before)
        assert (difference - (-wanted if lean & 0x80 else wanted)) % 2**width == 0
        assert -(2 ** (width - 1)) <= difference < 2 ** (width - 1)
    pairs = zip(source.tolist(), leans.tolist(), strict=True)
    assert twin.keys(other, stood_in).tolist() == [key(*pair) for pair in pairs]


@given(shape=shapes(models=[LEANING]), seed=st.integers(0, 1 << 30), near=st.booleans())
def test_streams_come_back(shape: CodeTable, seed: int, near: bool) -> None:
    """By any classes, levels and shifts, with the backend in use."""
    source, target, leans = elements(shape.kind, 600, seed, near=near)
    levels = np.random.default_rng(seed).integers(0, shape.levels, 3).astype(np.uint8)
    known = standing_in(shape)
    assert as_written(known) == shape
    stood_in = standing_source(shape.kind, source, leans)
    standing = standing_target(shape.kind, source, target, leans)
    fitted = fitting(known, stood_in, standing, levels)
    assert fitted is not None
    table = as_written(fitted)
    stream = coder.encode(table, source, target, levels, 8, leans=leans)
    assert stream is not None
    assert stream == twin.encode(fitted, stood_in, standing, levels, 8)
    found = np.empty_like(target)
    coder.decode(table, source, 8, stream, found, leans=leans)
    assert np.array_equal(found, target)


@kinds
def test_symbols_are_those_of_the_elements_own_width(kind: ElementKind) -> None:
    """What stands in may be wider; no symbol is that the elements cannot have."""
    other = leaning_kind(kind)
    assert isinstance(other, LeaningKind) and other.stands_for == kind
    for shift in (0, 3):
        limit = symbol_limit(kind, DIFFERENCE, shift)
        assert symbol_limit(other, DIFFERENCE, shift) == limit
    least = 1 << (8 * kind.width_bytes - 1)
    source, target = (np.array([one], kind.bits) for one in (0, least))
    if kind.is_float:
        source, target = (numeric.unordered(one, kind) for one in (source, target))
    leans = np.zeros(1, np.uint8)
    table = standing_in(one_table(kind, LEANING, (0,), (4096,)))
    stood_in = standing_source(kind, source, leans)
    counts = coder.histogram(table, stood_in, standing_target(kind, source, target, leans), None)
    (symbol,) = np.flatnonzero(counts[0])
    assert symbol == min(symbol_limit(kind, LEANING, 0) - 1, 511)
