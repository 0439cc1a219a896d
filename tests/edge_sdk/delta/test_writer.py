"""Writing a container: tables where they are wanted, memory stated, the index true."""

import io

import pytest

from edge_sdk.base import CHUNK_BYTES, DeltaError
from edge_sdk.delta.container import PREFIX_BYTES_MAX, TABLES_BYTES, parse_prefix
from edge_sdk.delta.frames import Effort, Packer
from edge_sdk.delta.methods import Copy, Literal
from edge_sdk.delta.varint import varints
from edge_sdk.delta.writer import ContainerWriter, slot_of
from tests.support.deltas import decoded, file_ref, place, prefix_of, record_spans

DATA = bytes(range(256)) * 4096 * 3  # three chunks


def written(writer: ContainerWriter, limit: int = PREFIX_BYTES_MAX) -> tuple[bytes, int]:
    out = io.BytesIO()
    length, memory_bytes = writer.finish(out, folder=False, memory_limit_bytes=limit)
    assert length == len(out.getvalue())
    return out.getvalue(), memory_bytes


def writer_for(*sources: bytes) -> ContainerWriter:
    refs = [file_ref(f"s{number}", data) for number, data in enumerate(sources)]
    return ContainerWriter(io.BytesIO(), refs, [file_ref("t", DATA)])


def test_a_table_is_written_when_it_is_not_in_force() -> None:
    """Asking twice writes one record; another file in the same slot replaces it."""
    writer = writer_for(*[DATA] * 9)
    assert slot_of(7) == slot_of(0)
    for file in (0, 0, 7, 0, 1):
        writer.table(file)
    writer.record(Copy(), place(len(DATA)), varints(0))
    delta, _ = written(writer)
    header = parse_prefix(prefix_of(delta))
    assert [table.slot for table in header.index.tables()] == [0, 0, 0, 1]
    assert decoded(delta, [DATA] * 9) == [DATA]


def test_the_memory_stated_is_what_the_largest_record_needs() -> None:
    """Prefix, tables and the neediest record, to the byte; more than the limit is refused."""
    writer = writer_for(DATA)
    part = DATA[:CHUNK_BYTES]
    writer.record(Literal(), place(CHUNK_BYTES), Literal().encode(part, Packer(), Effort.QUICK))
    writer.record(Copy(), place(2 * CHUNK_BYTES, CHUNK_BYTES), varints(CHUNK_BYTES))
    delta, memory_bytes = written(writer)
    body_bytes = next(end - start for _, start, end in record_spans(delta)) - 1 - 2 - 4
    prefix_bytes = len(prefix_of(delta))
    assert memory_bytes == prefix_bytes + TABLES_BYTES + body_bytes + CHUNK_BYTES
    assert decoded(delta, [DATA], memory_limit_bytes=memory_bytes) == [DATA]
    again = writer_for(DATA)
    again.record(Copy(), place(len(DATA)), varints(0))
    with pytest.raises(DeltaError, match="limit is 1000"):
        written(again, limit=1000)


def test_a_record_over_files_begins_the_chunks_of_all() -> None:
    """One copy makes three files; the index knows where each of their chunks begins."""
    files = [DATA[:9], b"", DATA[9:]]
    refs = [file_ref(f"t{number}", data) for number, data in enumerate(files)]
    writer = ContainerWriter(io.BytesIO(), [file_ref("s", DATA)], refs)
    writer.record(Copy(), place(len(DATA)), varints(0))
    out = io.BytesIO()
    writer.finish(out, folder=True, memory_limit_bytes=PREFIX_BYTES_MAX)
    header = parse_prefix(prefix_of(out.getvalue()))
    assert not header.repeats
    assert [run.chunks for run in header.index.runs()] == [header.chunk_count] == [4]
    assert decoded(out.getvalue(), [DATA]) == files


def test_reading_the_target_is_announced() -> None:
    """One record that does is enough for the header's flag."""
    writer = writer_for(DATA)
    writer.record(Copy(), place(CHUNK_BYTES), varints(0))
    tail = varints(len(DATA))
    writer.record(Copy(), place(CHUNK_BYTES, CHUNK_BYTES), tail, reads_target=True)
    writer.record(Copy(), place(CHUNK_BYTES, 2 * CHUNK_BYTES), varints(0))
    delta, _ = written(writer)
    assert parse_prefix(prefix_of(delta)).repeats
    assert decoded(delta, [DATA]) == [DATA]
