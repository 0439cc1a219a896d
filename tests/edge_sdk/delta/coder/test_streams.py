"""Streams of elements: both backends make the same bytes, and refuse what is none."""

from __future__ import annotations

from functools import partial
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError
from edge_sdk.delta.coder import KERNEL, twin
from edge_sdk.delta.coder.tables import ALONE, DIFFERENCE, CodeTable
from edge_sdk.delta.numeric import KINDS
from tests.support.code_tables import KNOWN_MODELS, fitting, one_table, shapes
from tests.support.deltas import EDGE_BITS, tuned, weights

BACKENDS: list[ModuleType] = [twin]
if KERNEL == "c":
    from edge_sdk.delta.coder import kernel

    plain = ModuleType("the kernel's plain")
    vars(plain).update(
        vars(kernel), __name__="kernel.plain", decode=partial(kernel.decode, plain=True)
    )
    BACKENDS += [kernel, plain]
NAMES = [backend.__name__.rsplit(".", 1)[1] for backend in BACKENDS]
both = pytest.mark.parametrize("backend", BACKENDS, ids=NAMES)
INT8 = KINDS[0]


@st.composite
def cases(
    draw: st.DrawFn,
) -> tuple[CodeTable, np.ndarray | None, np.ndarray, np.ndarray | None, int]:
    """Any shape, elements of any bits or alike ones, edge values among them, any levels."""
    shape = draw(shapes(models=KNOWN_MODELS))
    count = draw(st.one_of(st.integers(0, 70), st.sampled_from([255, 256, 257, 600])))
    seed = draw(st.integers(0, 2**32 - 1))
    chance = np.random.default_rng(seed)
    source = weights(shape.kind.name, count, seed)
    if draw(st.booleans()):
        target = tuned(source, seed + 1, step=draw(st.sampled_from([1, 9, 100])))
    else:
        target = chance.integers(0, 2**64, count, np.uint64).astype(shape.kind.bits)
        edges = np.array(EDGE_BITS[shape.kind.name], shape.kind.bits)[:count]
        target[: len(edges)] = chance.permutation(edges)
    levels = None
    if shape.levels > 1:
        levels = chance.integers(0, shape.levels, -(-count // 256)).astype(np.uint8)
    given_source = None if shape.model == ALONE else source
    return shape, given_source, target, levels, draw(st.sampled_from([1, 8, 32]))


@pytest.mark.unmeasured
@both
@given(case=cases())
def test_any_elements_come_back(
    backend: ModuleType,
    case: tuple[CodeTable, np.ndarray | None, np.ndarray, np.ndarray | None, int],
) -> None:
    """Every kind, model, class, level and number of lanes, and both backends alike."""
    shape, source, target, levels, lanes = case
    counts = backend.histogram(shape, source, target, levels)
    assert counts.sum() == len(target)
    assert np.array_equal(counts, twin.histogram(shape, source, target, levels))
    table = fitting(shape, source, target, levels)
    if table is None:
        return
    stream = backend.encode(table, source, target, levels, lanes)
    assert stream is not None
    assert stream == twin.encode(table, source, target, levels, lanes)
    found = backend.decode(table, source, len(target), lanes, stream)
    assert np.array_equal(found, target)


@pytest.mark.unmeasured
@both
@given(case=cases(), data=st.data())
def test_damaged_streams_raise_only_typed_errors(
    backend: ModuleType,
    case: tuple[CodeTable, np.ndarray | None, np.ndarray, np.ndarray | None, int],
    data: st.DataObject,
) -> None:
    """A flipped bit, a cut or a byte more: DeltaError, or other elements; both backends agree."""
    shape, source, target, levels, lanes = case
    table = fitting(shape, source, target, levels)
    if table is None:
        return
    stream = bytearray(twin.encode(table, source, target, levels, lanes) or b"")
    how = data.draw(st.sampled_from(["flip", "cut", "more"]))
    if how == "flip":
        bit = data.draw(st.integers(0, 8 * len(stream) - 1))
        stream[bit // 8] ^= 1 << bit % 8
    elif how == "cut":
        del stream[data.draw(st.integers(0, len(stream) - 1)) :]
    else:
        stream += b"\x00"
    found = [_decoded(one, table, source, len(target), lanes, stream) for one in (twin, backend)]
    if how != "flip":
        assert found[0] is found[1] is None
    elif found[0] is None or found[1] is None:
        assert found[0] is found[1]
    else:
        assert np.array_equal(*found)


def _decoded(
    backend: ModuleType,
    table: CodeTable,
    source: np.ndarray | None,
    count: int,
    lanes: int,
    stream: bytearray,
) -> np.ndarray | None:
    try:
        return backend.decode(table, source, count, lanes, bytes(stream))
    except DeltaError:
        return None


@both
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_statistics_are_alike(backend: ModuleType, kind: object) -> None:
    """Scales and levels of the backends are the same numbers, also at the edges."""
    source = weights(kind.name, 3001, 1)
    target = tuned(source, 2, 50)
    target[::97] = weights(kind.name, 3001, 3)[::97]
    counts, sums = backend.scales(kind, source, target)
    again, sums_again = twin.scales(kind, source, target)
    assert counts.tolist() == again.tolist()
    assert sums.tolist() == sums_again.tolist()
    assert counts.sum() == 3001
    inverse = (counts << np.uint64(26)) // np.maximum(sums, np.uint64(1))
    means = np.minimum(inverse, np.uint64(2**32 - 1)).astype(np.uint32)
    found = backend.levels(kind, source, target, means)
    assert found.tolist() == twin.levels(kind, source, target, means).tolist()
    assert len(found) == 12
    assert int(found.max()) <= 6


@both
def test_levels_follow_the_size(backend: ModuleType) -> None:
    """Unchanged elements are of level 0, twice the mean of the last."""
    source = np.zeros(768, np.uint8)
    target = np.repeat(np.array([0, 4, 20], np.uint8), 256)
    means = np.full(256, (1 << 26) // 8, np.uint32)
    assert backend.levels(INT8, source, target, means).tolist() == [0, 2, 6]


@both
def test_a_symbol_without_frequency_is_not_coded(backend: ModuleType) -> None:
    """None, and no bytes that decode to something else."""
    table = one_table(INT8, DIFFERENCE, (0, 1), (4000, 96))
    source = np.zeros(10, np.uint8)
    assert backend.encode(table, source, source, None, 1) is not None
    assert backend.encode(table, source, source + np.uint8(1), None, 1) is None
    assert backend.encode(table, source, source + np.uint8(99), None, 1) is None


STATE = (1 << 16).to_bytes(4, "little")


@both
@pytest.mark.parametrize(
    ("stream", "lanes"),
    [
        (b"", 1),
        (b"\x00", 1),
        (b"\x00" + STATE[:3], 1),
        (b"\x00" + STATE, 8),
        (b"\x00" + STATE * 2, 1),
        (b"\x00" + STATE + b"\x00", 1),
        (b"\x01" + STATE + b"\x00\x00", 1),
        (b"\x00" + (65535).to_bytes(4, "little"), 1),
        (b"\x00" + (65537).to_bytes(4, "little"), 1),
        (b"\x80\x00" + STATE, 1),
    ],
)
def test_states_and_lengths_are_held_to(backend: ModuleType, stream: bytes, lanes: int) -> None:
    """States below 2^16, ends elsewhere, words and bytes too many or too few are refused."""
    table = one_table(INT8, DIFFERENCE, (0,), (4096,))
    source = np.arange(5, dtype=np.uint8)
    good = b"\x00" + STATE * 8
    assert backend.decode(table, source, 5, 8, good).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DeltaError):
        backend.decode(table, source, 5, lanes, stream)


@both
def test_padding_of_raw_bits_is_zero(backend: ModuleType) -> None:
    """Three raw bits leave five that say nothing, and must not."""
    source = np.zeros(3, np.uint8)
    table = one_table(INT8, DIFFERENCE, (0,), (4096,), shift=1)
    stream = b"\x00" + STATE + b"\x05"
    assert backend.decode(table, source, 3, 1, stream).tolist() == [1, 0, 1]
    for last in (b"\x0d", b"\x85", b"", b"\x05\x00"):
        with pytest.raises(DeltaError):
            backend.decode(table, source, 3, 1, stream[:-1] + last)


@both
def test_no_elements_are_no_states(backend: ModuleType) -> None:
    """The stream of nothing says that there are no words, and ends."""
    table = one_table(INT8, DIFFERENCE, (0,), (4096,))
    nothing = np.zeros(0, np.uint8)
    assert backend.encode(table, nothing, nothing, None, 8) == b"\x00"
    assert len(backend.decode(table, nothing, 0, 8, b"\x00")) == 0
