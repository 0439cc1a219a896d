"""The kernel in C: what only it can get wrong. That it is the twin's like, test_streams.py shows."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError
from edge_sdk.delta import coder
from edge_sdk.delta.coder import tables, twin
from edge_sdk.delta.coder.tables import ALONE, DIFFERENCE, CodeTable, Table
from edge_sdk.delta.numeric import KINDS, ElementKind
from edge_sdk.delta.varint import Cursor
from tests.support.code_tables import code_tables, fitting, one_table
from tests.support.deltas import tuned, weights

_kernel = pytest.importorskip("edge_sdk.delta._kernel", exc_type=ImportError)
kernel = pytest.importorskip("edge_sdk.delta.coder.kernel", exc_type=ImportError)

SOURCES = Path(__file__).parents[4] / "csrc"
INT8, BFLOAT16 = KINDS[0], KINDS[5]
ARGUMENT = -1
NOTHING = b""


def fitted(count: int, levels: np.ndarray | None = None) -> tuple[CodeTable, ...]:
    """A table with classes, and the pair of bfloat16 arrays that it is made for."""
    source = weights("bfloat16", count, 1)
    target = tuned(source, 2, 40)
    one = Table(shift=1, symbols=(0,), frequencies=(4096,))
    used = 1 if levels is None else 2
    even = Table(shift=0, symbols=(0, 1), frequencies=(2048, 2048))
    shape = CodeTable(
        kind=BFLOAT16,
        model=DIFFERENCE,
        bounds=(110, 120),
        levels=used,
        cells=tuple(range(3 * used)),
        tables=(one,) * (3 * used),
        level_tables=(even, even) if used > 1 else (),
    )
    table = fitting(shape, source, target, levels)
    assert table is not None
    return table, source, target


@pytest.mark.parametrize("lanes", [1, 8, 32])
@pytest.mark.parametrize("count", [4096, 70_001])
def test_long_streams_come_back(lanes: int, count: int) -> None:
    """Many pieces, so that words and raw bits are read without and with few left."""
    levels = (np.arange(-(-count // 256)) % 3 % 2).astype(np.uint8)
    table, source, target = fitted(count, levels)
    stream = kernel.encode(table, source, target, levels, lanes)
    assert stream == twin.encode(table, source, target, levels, lanes)
    assert np.array_equal(kernel.decode(table, source, count, lanes, stream), target)


def test_elements_need_no_alignment() -> None:
    """A chunk's border may put elements at any byte."""
    table, source, target = fitted(2000)
    apart = [np.empty(4001, np.uint8), np.empty(4001, np.uint8)]
    odd = [memory[1:].view(np.uint16) for memory in apart]
    odd[0][:], odd[1][:] = source, target
    stream = kernel.encode(table, *odd, None, 8)
    assert stream == kernel.encode(table, source, target, None, 8)
    assert np.array_equal(kernel.decode(table, odd[0], 2000, 8, stream), target)


def test_threads_share_a_table() -> None:
    """Decoders are only read: records decode at the same time."""
    table, source, target = fitted(60_000)
    stream = kernel.encode(table, source, target, None, 8)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(kernel.decode, table, source, 60_000, 8, stream) for _ in range(16)]
        assert all(np.array_equal(one.result(), target) for one in found)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_still_pieces_between_moving_ones(kind: ElementKind, plain: bool) -> None:
    """Pieces without raw bits have a way of their own, into which and out of which they go."""
    source = weights(kind.name, 9000, 1)
    target = source.copy()
    for start in (1500, 5000):
        target[start : start + 1500] = tuned(source, 2, 99)[start : start + 1500]
    table = fitting(one_table(kind, DIFFERENCE, (0,), (4096,)), source, target, None)
    assert table is not None
    for lanes in (1, 8, 32):
        stream = kernel.encode(table, source, target, None, lanes)
        made = kernel.decode(table, source, len(source), lanes, stream, plain=plain)
        assert np.array_equal(made, target)


def test_levels_that_end_too_early_are_refused() -> None:
    """A word less than the levels need, all else being in its place, by kernel and twin."""
    count = 256 * 40
    levels = (np.arange(40) % 3 % 2).astype(np.uint8)
    table, source, target = fitted(count, levels)
    stream = twin.encode(table, source, target, levels, 8)
    assert stream is not None
    held_bytes = stream[0]
    assert 4 < held_bytes < 128
    cut = bytes((held_bytes - 2,)) + stream[1 : held_bytes - 1] + stream[1 + held_bytes :]
    for backend in (kernel, twin):
        assert np.array_equal(backend.decode(table, source, count, 8, stream), target)
        with pytest.raises(DeltaError):
            backend.decode(table, source, count, 8, cut)


@pytest.mark.parametrize(
    "wrong",
    [
        one_table(INT8, DIFFERENCE, (0, 1), (4000, 95)),
        one_table(INT8, DIFFERENCE, (0, 1), (4095, 2)),
        one_table(INT8, DIFFERENCE, (0, 1), (4096, 0)),
        one_table(INT8, DIFFERENCE, (1, 0), (4000, 96)),
        one_table(INT8, DIFFERENCE, (1, 1), (4000, 96)),
        one_table(INT8, DIFFERENCE, (), ()),
        one_table(INT8, DIFFERENCE, (55,), (4096,)),
        one_table(INT8, DIFFERENCE, (57,), (4096,)),
        one_table(INT8, DIFFERENCE, (0,), (4096,), shift=8),
        one_table(INT8, ALONE, (0,), (4096,), shift=1),
        one_table(INT8, ALONE, (256,), (4096,)),
        one_table(INT8, 1, (0,), (4096,), shift=0),
        one_table(INT8, 3, (0,), (4096,), shift=0),
    ],
)
def test_wrong_tables_are_refused(wrong: CodeTable) -> None:
    """The kernel checks for itself what the parser of code tables has checked."""
    source = np.zeros(1, np.uint8)
    with pytest.raises(DeltaError):
        kernel.decode(wrong, source, 1, 1, b"\x00\x00\x00\x01\x00")
    with pytest.raises(DeltaError):
        kernel.encode(wrong, source, source, None, 1)


def test_the_outermost_symbol_is_taken() -> None:
    """-128 as the only difference that its symbol stands for, in tables of int8."""
    table = one_table(INT8, DIFFERENCE, (0, 56), (4000, 96))
    source = np.zeros(3, np.uint8)
    target = np.array([0, 128, 0], np.uint8)
    stream = kernel.encode(table, source, target, None, 1)
    assert kernel.decode(table, source, 3, 1, stream).tolist() == [0, 128, 0]


@pytest.mark.parametrize("lanes", [0, 2, 16, 33, 2**32 - 1])
def test_other_lanes_are_refused(lanes: int) -> None:
    """1, 8 and 32 are all there are."""
    table = one_table(INT8, DIFFERENCE, (0,), (4096,))
    source = np.zeros(1, np.uint8)
    with pytest.raises(DeltaError):
        kernel.encode(table, source, source, None, lanes)
    with pytest.raises(DeltaError):
        kernel.decode(table, source, 1, lanes, b"\x00" * 200)


def test_lengths_are_compared() -> None:
    """No buffer shorter or longer than the others say is touched."""
    table, source, target = fitted(600)
    short = source[:-1]
    stream = kernel.encode(table, source, target, None, 8)
    for wrong in (short, np.append(source, source[:1])):
        with pytest.raises(DeltaError):
            kernel.encode(table, wrong, target, None, 8)
        with pytest.raises(DeltaError):
            kernel.decode(table, wrong, 600, 8, stream)
        with pytest.raises(DeltaError):
            kernel.histogram(table, wrong, target, None)
        with pytest.raises(DeltaError):
            kernel.scales(BFLOAT16, wrong, target)
        with pytest.raises(DeltaError):
            kernel.levels(BFLOAT16, wrong, target, np.ones(256, np.uint32))


def test_levels_are_checked() -> None:
    """Levels that the table does not have, too few of them, none at all."""
    table, source, target = fitted(600, np.array([0, 1, 0], np.uint8))
    for wrong in (np.array([0, 2, 0], np.uint8), np.zeros(2, np.uint8), None):
        with pytest.raises(DeltaError):
            kernel.encode(table, source, target, wrong, 8)
        with pytest.raises(DeltaError):
            kernel.histogram(table, source, target, wrong)


def test_memory_that_is_no_decoder_is_refused() -> None:
    """Bytes of any length and content in the places of decoders, encoders and scratch."""
    source, target = np.zeros(8, np.uint8), np.zeros(8, np.uint8)
    scratch = np.zeros(1 << 16, np.uint8)
    table = one_table(INT8, DIFFERENCE, (0,), (4096,))
    stream = np.frombuffer(kernel.encode(table, source, target, None, 1), np.uint8)
    shape = kernel._shape(table)
    decoder = np.zeros(_kernel.decoder_bytes(*shape), np.uint8)
    arguments = (*shape, *kernel._joined(table.tables), *kernel._joined(()))
    assert _kernel.make_decoder(*arguments, decoder[:-8]) == ARGUMENT
    assert _kernel.make_decoder(*arguments, decoder) == 0
    assert _kernel.decode(decoder, source, 1, stream, scratch, target) == 0
    for wrong in (NOTHING, decoder[:-1], decoder[:100], scratch[:4096], decoder[1:]):
        assert _kernel.decode(wrong, source, 1, stream, scratch, target) == ARGUMENT
        assert _kernel.encode(wrong, source, target, NOTHING, 1, scratch, target) == ARGUMENT
        assert _kernel.encode_bytes(wrong, 8, 1) == (0, 0)
    assert _kernel.encode(decoder, source, target, NOTHING, 1, scratch, target) == ARGUMENT
    assert _kernel.decode(decoder, source, 1, stream, scratch[:64], target) == ARGUMENT
    assert _kernel.bins(0, 0, 9, b"\x00" * 2304, b"\x00") == ARGUMENT
    assert _kernel.bins(9, 0, 1, b"\x00" * 256, b"\x00") == ARGUMENT
    with pytest.raises((BufferError, TypeError)):
        _kernel.decode(decoder, source, 1, stream, scratch, bytes(8))
    with pytest.raises(TypeError):
        _kernel.decode(decoder, None, 1, stream, scratch, target)


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_nothing_outside_is_touched(tmp_path: Path) -> None:
    """Round trips and hostile streams under the compiler's sanitizers, all warnings on."""
    program = tmp_path / "fuzz"
    flags = ["-std=c11", "-g1", "-O1", "-Wall", "-Wextra", "-Werror", "-DFUZZ_MAIN"]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    whole = [path for path in sorted(SOURCES.glob("*.c")) if "<Python.h>" not in path.read_text()]
    sources = [str(path) for path in whole if path.name != "module.c"]
    built = subprocess.run(
        ["cc", *flags, *sanitizers, *sources, "-o", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "sanitize" in built.stderr or "asan" in built.stderr:
        pytest.skip("the compiler has no sanitizers")
    assert built.returncode == 0, built.stderr
    run = subprocess.run([str(program), "400", "1"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "400 inputs\n"


def outcome(parse: Callable[[], object]) -> object:
    """What it makes; None where it refuses."""
    try:
        return parse()
    except DeltaError:
        return None


@given(code_tables(), st.data())
def test_tables_are_parsed_as_in_python(table: CodeTable, data: st.DataObject) -> None:
    """Whole ones come back; of changed, cut and longer bodies each is taken by both or none."""
    body = bytearray(tables.pack(table))
    assert kernel.parse(bytes(body)) == table
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = (
        bytes(body)[: data.draw(st.integers(0, len(body)))]
        if data.draw(st.booleans())
        else (bytes(body) + data.draw(st.binary(max_size=2)))
    )
    expected = outcome(lambda: tables.parse(Cursor(changed, "this")))
    assert kernel.parse(changed) == expected


@given(st.binary(max_size=40))
def test_arbitrary_bytes_are_parsed_as_in_python(body: bytes) -> None:
    """Taken by both or none."""
    assert kernel.parse(body) == outcome(lambda: tables.parse(Cursor(body, "this")))


def test_a_refused_table_is_explained() -> None:
    """The kernel only refuses; what is wrong is said by the twin, and the same."""
    body = tables.pack(one_table(INT8, DIFFERENCE, (0,), (4096,))) + b"\0"
    cursor = Cursor(b"?" + body, "this")
    cursor.take(1)
    with pytest.raises(DeltaError, match="bits behind its code table"):
        coder.parse(cursor)


def test_a_table_takes_no_more_numbers_than_there_is_room_for() -> None:
    """Also where the table itself is right."""
    body = tables.pack(fitted(4096)[0])
    count = _kernel.parse_table(body, np.empty(34000, np.uint16))
    assert count > 0
    assert _kernel.parse_table(body, np.empty(count, np.uint16)) == count
    for room in range(count):
        assert _kernel.parse_table(body, np.empty(room, np.uint16)) < 0


def test_buffers_of_factors_belong_together() -> None:
    """Factors of as many components as there are weights."""
    for lengths in [(0, 0, 0), (2, 3, 2), (2, 2, 3), (1, 0, 1), (1, 1, 0)]:
        shifts, left, right = map(bytearray, lengths)
        assert _kernel.parse_factors(bytes(9), shifts, left, right) < 0
