"""Records made at once: what is written, and what fails, is the same as one after the other."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_sdk.base import CHUNK_BYTES, DeltaError, EdgeError, WrongSourceError
from edge_sdk.delta import Decoder
from edge_sdk.delta.making import Maker, Order
from edge_sdk.delta.methods import DecodeContext, Literal
from edge_sdk.delta.records import KIND_TABLE
from edge_sdk.delta.varint import Cursor
from tests.edge_sdk.delta.conftest import Example
from tests.support.deltas import (
    Target,
    encoded,
    record_spans,
    safetensors,
    tuned,
    weights,
    write_folder,
)

Writes = list[tuple[int, int, bytes]]


def outcome(
    delta: bytes,
    read_source: Callable[[int, int, int], bytes],
    threads: int,
    memory_limit_bytes: int = 32 << 20,
) -> tuple[Writes, str]:
    """What is written, and how it ends."""
    written: Writes = []
    decoder = Decoder(
        read_source=read_source,
        write=lambda file, offset, data: written.append((file, offset, bytes(data))),
        memory_limit_bytes=memory_limit_bytes,
        threads=threads,
    )
    try:
        for at in range(0, len(delta), 1 << 16):
            decoder.feed(delta[at : at + (1 << 16)])
        decoder.finish()
    except EdgeError as error:
        return written, f"{type(error).__name__}: {error.message}"
    return written, "complete"


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("memory_limit_bytes", [32 << 20, 13 << 20])
def test_the_same_is_written_in_the_same_order(
    large: Example, threads: int, memory_limit_bytes: int
) -> None:
    """Copies, numbers, tables and frames, with memory for many records or for few."""
    read = Target(large.sources).read_source
    alone = outcome(large.delta, read, 1)
    assert alone[1] == "complete"
    assert outcome(large.delta, read, threads, memory_limit_bytes) == alone


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_the_first_record_that_fails_is_told(large: Example, threads: int) -> None:
    """However many are in the making, and whatever follows, what is before it is written."""
    spans = [span for span in record_spans(large.delta) if span[0] != KIND_TABLE]
    read = Target(large.sources).read_source
    for broken in range(0, len(spans), 3):
        damaged = bytearray(large.delta)
        damaged[spans[broken][2] - 1] ^= 1
        alone = outcome(bytes(damaged), read, 1)
        assert "damaged" in alone[1]
        assert outcome(bytes(damaged), read, threads) == alone


def test_a_wrong_source_comes_before_a_damaged_record_behind_it(large: Example) -> None:
    """The record in the making fails later than the one that is collected, but is the first."""
    end = next(end for kind, _, end in record_spans(large.delta) if kind == 4)
    damaged = bytearray(large.delta)
    damaged[end + 10] ^= 1

    def short(file: int, offset: int, length: int) -> bytes:
        return large.sources[file][offset : offset + length - 1]

    alone = outcome(bytes(damaged), short, 1)
    assert alone[1].startswith(WrongSourceError.__name__)
    assert outcome(bytes(damaged), short, 4) == alone


def test_nothing_is_written_behind_a_write_that_fails(large: Example) -> None:
    """What the callback raises comes out; the records behind it are dropped, the threads end."""
    written = []

    def write(file: int, offset: int, data: memoryview) -> None:
        written.append((file, offset, len(data)))
        if len(written) == 2:
            raise OSError("full")

    before = threading.active_count()
    decoder = Decoder(
        read_source=Target(large.sources).read_source,
        write=write,
        memory_limit_bytes=32 << 20,
        threads=3,
    )
    with pytest.raises(OSError, match="full"):
        decoder.feed(large.delta)
    assert len(written) == 2
    assert threading.active_count() == before
    with pytest.raises(DeltaError, match="failed before"):
        decoder.feed(b"x")


@pytest.mark.parametrize("memory_limit_bytes", [14 << 20, 32 << 20])
def test_threads_stay_within_the_limit_of_memory(tmp_path: Path, memory_limit_bytes: int) -> None:
    """As many records at once as there is memory for, though many more threads are wanted."""
    before = weights("float16", 12 * CHUNK_BYTES // 2, 1)
    source, target = (safetensors({"w": ("float16", one)}) for one in (before, tuned(before, 2)))
    write_folder(tmp_path, {"v1": source, "v2": target})
    delta = encoded(tmp_path / "v1", tmp_path / "v2")
    tracemalloc.start()
    try:
        decoder = Decoder(
            read_source=lambda _file, offset, length: source[offset : offset + length],
            write=lambda _file, _offset, _data: None,
            memory_limit_bytes=memory_limit_bytes,
            threads=64,
        )
        decoder.feed(memoryview(delta))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    decoder.finish()
    assert peak_bytes < memory_limit_bytes


@pytest.mark.parametrize("others", [0, 2])
def test_a_method_that_makes_another_length_is_refused(others: int) -> None:
    """What a record makes is counted, whatever its method believes."""

    class Short(Literal):
        def decode(
            self, body: Cursor, length: int, skip: int, context: DecodeContext
        ) -> Iterator[bytes]:
            yield bytes(length - 1)

    maker = Maker(DecodeContext((), Target([]).read_source), lambda _at, _data: None, others=others)
    order = Order(method=Short(), body=Cursor(b"", "a record"), start=0, length=5, skip=0)
    with pytest.raises(DeltaError, match="does not make the bytes that it claims"):
        try:
            maker.make(order, bytearray())
            maker.finish()
        finally:
            maker.close()
