"""Each method alone: what it makes and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError, WrongSourceError
from edge_sdk.delta.frames import DICTIONARY_BYTES_MAX, Effort, Packer
from edge_sdk.delta.methods import (
    NAMES,
    REGISTRY,
    Copy,
    DecodeContext,
    Dictionary,
    Literal,
    Residual,
)
from edge_sdk.delta.methods.copy import PIECE_BYTES
from edge_sdk.delta.numeric import KINDS, ElementKind
from edge_sdk.delta.prediction import Prediction, SourceRange
from edge_sdk.delta.varint import Cursor, varints
from tests.support.deltas import file_ref, tuned, weights

PACKER = Packer()


def context(*sources: bytes) -> DecodeContext:
    refs = tuple(file_ref(f"s{number}", data) for number, data in enumerate(sources))
    found = DecodeContext(refs, lambda file, at, count: sources[file][at : at + count])
    if sources and sources[0]:
        whole = SourceRange(file=0, offset=0, length=len(sources[0]))
        found.tables[0] = Prediction(ranges=(whole,))
    return found


def made(
    method: object, tail: bytes, length: int, given_context: DecodeContext, skip: int = 0
) -> bytes:
    pieces = method.decode(Cursor(tail, "a record"), length, skip, given_context)  # type: ignore[attr-defined]
    return b"".join(bytes(piece) for piece in pieces)


def test_the_registry_names_each_method_once() -> None:
    """Numbers and names are those of FORMAT.md, none twice."""
    found = [(number, method.name) for number, method in REGISTRY.items()]
    assert found == [(1, "copy"), (2, "literal"), (3, "dictionary"), (4, "residual")]
    assert tuple(name for _, name in found) == NAMES
    assert [method.name for method in REGISTRY.values() if method.spans_chunks] == ["copy"]


def test_only_bounded_memory_is_asked_for() -> None:
    """A chunk of any method decodes within 16 MiB; a copy needs one piece however long it is."""
    assert all(method.memory_bytes(1 << 20, 1 << 20) < 16 << 20 for method in REGISTRY.values())
    assert Copy().memory_bytes(1 << 50, 20) == 20 + PIECE_BYTES


# --- copy -----------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 49))
def test_copy_makes_the_range_without_what_is_skipped(offset: int, length: int, skip: int) -> None:
    """Any range, from any byte of it on."""
    source = bytes(range(100))
    tail = Copy().encode(0, offset)
    skip = min(skip, length)
    expected = source[offset + skip : offset + length]
    assert made(Copy(), tail, length, context(source), skip) == expected


@pytest.mark.parametrize(
    "tail", [varints(1, 0), varints(0, 1), varints(0, 2**63 - 1), varints(0, 0, 0), varints(0)]
)
def test_copy_refuses_what_no_source_has(tail: bytes) -> None:
    """Another file, a range past its end, overflow, and bodies of the wrong length."""
    with pytest.raises(DeltaError):
        made(Copy(), tail, 100, context(bytes(100)))


# --- literal --------------------------------------------------------------------------


def test_literal_makes_what_it_holds() -> None:
    """And needs no source."""
    tail = Literal().encode(b"abc" * 99, PACKER, Effort.DENSE)
    assert made(Literal(), tail, 297, context()) == b"abc" * 99


# --- dictionary -----------------------------------------------------------------------


def test_dictionary_uses_its_window() -> None:
    """A changed word in a known text takes a fraction of the text."""
    source = " ".join(str(i * i) for i in range(2000)).encode()
    target = source.replace(b" 1000000 ", b" a million ")
    window = SourceRange(file=0, offset=100, length=len(source) - 100)
    tail = Dictionary().encode(target, window, source[100:], PACKER, 19)
    assert len(tail) < 200
    assert made(Dictionary(), tail, len(target), context(source)) == target


@pytest.mark.parametrize(
    "window", [(0, 0, 0), (0, 0, DICTIONARY_BYTES_MAX + 1), (0, 50, 51), (1, 0, 1)]
)
def test_dictionary_refuses_impossible_windows(window: tuple[int, int, int]) -> None:
    """Empty, too large, past the end, or of no source."""
    with pytest.raises(DeltaError):
        made(Dictionary(), varints(*window) + b"frame", 3, context(bytes(100)))


# --- residual -------------------------------------------------------------------------


def residual(
    source: bytes, target: bytes, kind: ElementKind, phase: int, position: int = 0
) -> bytes:
    part = source[position : position + len(target)]
    return Residual().encode(
        part, target, kind=kind, phase=phase, slot=0, position=position, packer=PACKER
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_residual_makes_tuned_weights_from_few_bytes(kind: ElementKind) -> None:
    """Weights a little further on come back, in less than they take compressed alone."""
    before = weights(kind.name, 20_000, 1)
    after = tuned(before, 2).tobytes()
    tail = residual(before.tobytes(), after, kind, 0)
    alone = Literal().encode(after, PACKER, Effort.QUICK)
    assert made(Residual(), tail, len(after), context(before.tobytes())) == after
    assert len(tail) < len(alone)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(data=st.data())
def test_residual_makes_any_bytes(kind: ElementKind, data: st.DataObject) -> None:
    """Any source and target, any phase, any position, cut elements at both ends."""
    target = data.draw(st.binary(min_size=1, max_size=40))
    position = data.draw(st.integers(0, 9))
    size = position + len(target)
    source = data.draw(st.binary(min_size=size, max_size=size))
    phase = data.draw(st.integers(0, min(kind.width_bytes - 1, len(target))))
    tail = residual(source, target, kind, phase, position)
    assert made(Residual(), tail, len(target), context(source)) == target


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("every", [3, 200, 255, 256, 5000])
def test_few_changes_are_listed(kind: ElementKind, every: int) -> None:
    """One change in a few, or in thousands, comes back from about a byte or two for each."""
    before = weights(kind.name, 40_001, 1)
    after = before.copy()
    after[::every] += np.array(1, kind.bits)
    tail = residual(before.tobytes(), after.tobytes(), kind, 0)
    assert made(Residual(), tail, after.nbytes, context(before.tobytes())) == after.tobytes()
    assert len(tail) < 60 + 2 * 40_001 // every


def test_residual_groups_by_exponent() -> None:
    """Steps that follow the exponent take less than the same steps shuffled."""
    chance = np.random.default_rng(3)
    exponents = chance.integers(100, 130, 40_000).astype("<u4")
    before = exponents << 23 | chance.integers(0, 1 << 23, 40_000).astype("<u4")
    after = before + (chance.integers(0, 2, 40_000).astype("<u4") << (exponents - 100) // 2)
    mixed = before + (after - before)[chance.permutation(40_000)]
    sizes = [
        len(residual(before.tobytes(), target.tobytes(), KINDS[6], 0)) for target in (after, mixed)
    ]
    assert sizes[0] < 0.8 * sizes[1]


@pytest.mark.parametrize(
    ("tail", "length", "problem"),
    [
        (varints(1, 0, 0, 0, 0) + PACKER.pack(bytes(8), Effort.QUICK), 8, "not in force"),
        (varints(0, 93, 0, 0, 0) + PACKER.pack(bytes(8), Effort.QUICK), 8, "more of"),
        (varints(0, 0, 8, 0), 8, "unknown to this release"),
        (varints(0, 0, 6, 4), 8, "before its first element"),
        (varints(0, 0, 7, 3), 2, "before its first element"),
        (varints(0, 0, 6, 0, 0) + b"no frame", 8, "not a zstd frame"),
        (varints(0, 0, 6, 0, 2) + b"no frame", 8, "in form 2"),
        (varints(0, 0, 0, 0, 1, 5, 5) + b"frame", 8, "lists 5 of 8"),
        (varints(0, 0, 0, 0, 1, 4, 5) + b"frame", 8, "too many"),
        (
            varints(0, 0, 0, 0, 1, 2, 2) + PACKER.pack(b"\x00\x00\xff\x01", Effort.QUICK),
            8,
            "is zero",
        ),
        (
            varints(0, 0, 0, 0, 1, 2, 2) + PACKER.pack(b"\x03\x04\x00\x00", Effort.QUICK),
            8,
            "behind",
        ),
        (
            varints(0, 0, 0, 0, 1, 2, 2) + PACKER.pack(b"\x03\xff\x00\x00", Effort.QUICK),
            8,
            "gaps for 1",
        ),
        (
            varints(0, 0, 0, 0, 1, 1, 2) + PACKER.pack(b"\x00\x00\x00", Effort.QUICK),
            300,
            "gaps for 2",
        ),
    ],
)
def test_residual_refuses_what_cannot_be(tail: bytes, length: int, problem: str) -> None:
    """Tables not in force, too much of one, unknown kinds, impossible phases and lists."""
    with pytest.raises(DeltaError, match=problem):
        made(Residual(), tail, length, context(bytes(max(100, length))))


def test_a_short_source_is_a_wrong_source() -> None:
    """A source that ends too early is told apart from a damaged delta."""
    refs = (file_ref("weights", bytes(100)),)
    short = DecodeContext(refs, lambda _file, _at, _count: b"")
    with pytest.raises(WrongSourceError, match="'weights'"):
        made(Copy(), varints(0, 0), 10, short)
