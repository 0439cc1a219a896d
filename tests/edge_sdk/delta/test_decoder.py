"""The push decoder: any split, any chunk to begin at, and what it refuses."""

import random
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import CHUNK_BYTES, DeltaError, UsageError, WrongSourceError, chunk_count
from edge_sdk.delta import Decoder
from edge_sdk.delta.coder.tables import CodeTable, Table, pack
from edge_sdk.delta.container import CODE_TABLE_BYTES, MAPPED_BYTES, TABLES_BYTES, put_index
from edge_sdk.delta.frames import Effort, Packer
from edge_sdk.delta.numeric import KINDS
from edge_sdk.delta.prediction import Prediction, SourceRange, put_prediction
from edge_sdk.delta.records import KIND_TABLE
from edge_sdk.delta.varint import varints
from tests.edge_sdk.delta.conftest import Example
from tests.support.deltas import (
    Crafted,
    Target,
    bits_dtype,
    decoded,
    encoded,
    file_ref,
    place,
    prefix_of,
    record_spans,
    safetensors,
    tuned,
    weights,
    write_folder,
)

COPY, LITERAL, PATCH, RESIDUAL = 1, 2, 3, 4


def packed(data: bytes) -> bytes:
    return Packer().pack(data, Effort.QUICK)


SMALLEST = CodeTable(
    kind=KINDS[0],
    model=0,
    bounds=(),
    levels=1,
    cells=(0,),
    tables=(Table(shift=0, symbols=(0,), frequencies=(4096,)),),
    level_tables=(),
)


def literal(data: bytes) -> Crafted:
    """A good container of one literal record."""
    crafted = Crafted(targets=[file_ref("t", data)])
    return crafted.data(LITERAL, place(len(data)), packed(data))


def refused(delta: bytes, problem: str, sources: tuple[bytes, ...] = ()) -> None:
    """A DeltaError that matches, whole and byte by byte."""
    for piece_bytes in (None, 1):
        with pytest.raises(DeltaError, match=problem):
            decoded(delta, sources, piece_bytes=piece_bytes)


# --- what comes out -------------------------------------------------------------------


def test_all_files_come_back(small: Example, large: Example) -> None:
    """Every kind of record is used, and makes exactly the target."""
    for example in (small, large):
        assert decoded(example.delta, example.sources) == example.targets
    kinds = {kind for kind, _, _ in record_spans(small.delta)}
    assert kinds == {0, COPY, LITERAL, PATCH, RESIDUAL, 128}


def test_byte_by_byte_equals_whole(small: Example) -> None:
    """Fed one byte at a time, the decoder makes the same."""
    assert decoded(small.delta, small.sources, piece_bytes=1) == small.targets


def test_any_split_equals_whole(large: Example) -> None:
    """Pieces of any sizes, empty ones included, make the same."""
    chance = random.Random(5)
    target = Target(large.sources)
    decoder = target.decoder()
    at = 0
    while at < len(large.delta):
        count = chance.choice([0, 1, 2, 17, 4096, 1 << 20])
        decoder.feed(large.delta[at : at + count])
        at += count
    decoder.finish()
    target.prove()
    assert target.files == large.targets


def test_the_header_is_told_before_anything_is_written(small: Example) -> None:
    """With the prefix alone the header is known, and no write has happened."""
    target = Target(small.sources)
    decoder = target.decoder()
    prefix = prefix_of(small.delta)
    assert decoder.header is None
    decoder.feed(prefix)
    assert target.header is decoder.header is not None
    assert decoder.prefix_bytes == len(prefix)
    assert target.first_write is None
    assert [file.path for file in decoder.header.targets][:2] == ["a.safetensors", "empty"]
    assert decoder.header.delta_bytes == len(small.delta)


def test_the_source_is_read_in_bounded_pieces(large: Example) -> None:
    """However far a copy reaches, no single read asks for more than a chunk."""
    target = Target(large.sources)
    asked = []

    def read_source(file: int, offset: int, length: int) -> bytes:
        asked.append(length)
        return target.read_source(file, offset, length)

    decoder = Decoder(
        read_source=read_source,
        write=target.write,
        memory_limit_bytes=32 << 20,
        on_header=target.on_header,
    )
    decoder.feed(large.delta)
    assert asked
    assert max(asked) <= CHUNK_BYTES


@pytest.mark.parametrize("kind", ["int8", "float16", "float32", "float64"])
@pytest.mark.parametrize("every", [1, 2])
def test_decoding_stays_within_the_declared_memory(tmp_path: Path, kind: str, every: int) -> None:
    """What Python and NumPy hold while a chunk is decoded is less than the header says."""
    before = weights(kind, CHUNK_BYTES // bits_dtype(kind).itemsize, 1)
    after = before.copy()
    after[::every] = tuned(before, 2, 64)[::every]
    source, target = (safetensors({"w": (kind, bits)}) for bits in (before, after))
    write_folder(tmp_path, {"v1": source, "v2": target})
    delta = encoded(tmp_path / "v1", tmp_path / "v2")
    decoder = Decoder(
        read_source=lambda _file, offset, length: source[offset : offset + length],
        write=lambda _file, _offset, _data: None,
        memory_limit_bytes=16 << 20,
    )
    tracemalloc.start()
    try:
        for at in range(0, len(delta), 1 << 16):
            decoder.feed(delta[at : at + (1 << 16)])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    decoder.finish()
    assert decoder.header is not None
    assert peak_bytes < decoder.header.memory_bytes


# --- resume ---------------------------------------------------------------------------


def test_resume_at_every_chunk_equals_the_rest(large: Example) -> None:
    """From each chunk on, the spans that are asked for make exactly what is missing."""
    prefix = prefix_of(large.delta)
    chunk = 0
    for number, data in enumerate(large.targets):
        for first in range(0, len(data), CHUNK_BYTES):
            target = Target(large.sources)
            decoder, spans = target.resume(prefix, chunk)
            for span in spans:
                decoder.feed(large.delta[span.offset : span.end])
            decoder.finish()
            assert target.first_write == (number, first)
            assert target.files[number][first:] == data[first:]
            assert target.files[number + 1 :] == large.targets[number + 1 :]
            chunk += 1
    assert chunk == 12


def test_resume_asks_for_little(large: Example) -> None:
    """What is fetched again is tables and what follows the chunk's record, nothing before."""
    starts = {start for _, start, _ in record_spans(large.delta)}
    tables = {(start, end) for kind, start, end in record_spans(large.delta) if kind == 128}
    for chunk in range(12):
        _, spans = Target(large.sources).resume(prefix_of(large.delta), chunk)
        *in_force, rest = spans
        assert rest.offset in starts
        assert rest.end == len(large.delta)
        assert all((span.offset, span.end) in tables for span in in_force)


def test_resume_behind_the_last_chunk_wants_only_the_end(large: Example) -> None:
    """Nothing is written any more, but the end is still checked."""
    target = Target(large.sources)
    decoder, spans = target.resume(prefix_of(large.delta), 12)
    assert len(spans) == 1
    decoder.feed(large.delta[spans[0].offset :])
    decoder.finish()
    assert target.first_write is None


def test_there_is_no_chunk_behind_the_end(large: Example) -> None:
    """A chunk that the target does not have is a wrong use, not a damaged delta."""
    for chunk in (-1, 13):
        with pytest.raises(UsageError, match="12 chunks"):
            Target(large.sources).resume(prefix_of(large.delta), chunk)


def test_resume_needs_the_whole_prefix(large: Example) -> None:
    """A kept prefix that is cut or damaged is refused."""
    prefix = bytearray(prefix_of(large.delta))
    with pytest.raises(DeltaError, match="not complete"):
        Target(large.sources).resume(bytes(prefix[:-1]), 3)
    with pytest.raises(DeltaError, match="not complete"):
        Target(large.sources).resume(b"", 3)
    prefix[40] ^= 1
    with pytest.raises(DeltaError, match="damaged"):
        Target(large.sources).resume(bytes(prefix), 3)


def test_resume_refuses_other_bytes_than_it_asked_for(large: Example) -> None:
    """A decoder that begins at a chunk takes no other record for the one it wants."""
    _, spans = Target(large.sources).resume(prefix_of(large.delta), 2)
    *_, rest = spans
    records = [start for _, start, _ in record_spans(large.delta)]
    for start in records:
        if start == rest.offset:
            continue
        target = Target(large.sources)
        decoder, asked = target.resume(prefix_of(large.delta), 2)
        for span in asked[:-1]:
            decoder.feed(large.delta[span.offset : span.end])
        with pytest.raises(DeltaError):
            decoder.feed(large.delta[start:])
            decoder.finish()


def test_a_record_where_a_table_was_asked_for_is_refused(large: Example) -> None:
    """Feeding the rest without the tables in force does not pass."""
    for chunk in range(12):
        decoder, spans = Target(large.sources).resume(prefix_of(large.delta), chunk)
        if len(spans) > 1:
            with pytest.raises(DeltaError):
                decoder.feed(large.delta[spans[-1].offset :])
            return
    raise AssertionError("no chunk needs a table")


# --- what is refused ------------------------------------------------------------------


@pytest.mark.unmeasured
def test_truncation_at_every_byte_is_refused(small: Example) -> None:
    """A delta that ends too early is a DeltaError wherever it ends, the empty one too."""
    for length in range(len(small.delta)):
        target = Target(small.sources)
        decoder = target.decoder()
        decoder.feed(small.delta[:length])
        with pytest.raises(DeltaError, match="truncated"):
            decoder.finish()


def test_trailing_bytes_are_refused(small: Example) -> None:
    """One byte more, or a second delta behind the first, is an error."""
    for more in (b"\x00", small.delta):
        with pytest.raises(DeltaError, match="follow the end"):
            decoded(small.delta + more, small.sources)


def test_a_failed_decoder_takes_no_more_bytes(small: Example) -> None:
    """After an error nothing can make it go on, and it never counts as complete."""
    decoder = Target(small.sources).decoder()
    with pytest.raises(DeltaError, match="other bytes"):
        decoder.feed(b"x" * 18)
    with pytest.raises(DeltaError, match="failed before"):
        decoder.feed(small.delta)
    with pytest.raises(DeltaError):
        decoder.finish()


def test_another_version_is_refused_at_once(small: Example) -> None:
    """The version decides before anything else of the container is looked at."""
    for other in (0, 2, 1 << 15):
        changed = small.delta[:8] + other.to_bytes(2, "little") + small.delta[10:18]
        with pytest.raises(DeltaError, match=f"format version {other}; this release") as error:
            decoded(changed)
        assert error.value.facts["version"] == other


def test_an_unknown_method_is_refused_at_the_header() -> None:
    """A method that this release lacks is refused before anything is read or written."""
    crafted = literal(b"abc")
    crafted.methods = [LITERAL, 99]
    target = Target(())
    with pytest.raises(DeltaError, match="method 99"):
        target.decoder().feed(crafted.build())
    assert target.header is None
    assert target.first_write is None


def test_a_method_that_the_header_does_not_name_is_refused() -> None:
    """The header's list binds: a record of another method ends the decoding."""
    crafted = literal(b"abc")
    crafted.methods = [COPY]
    refused(crafted.build(), "does not name")
    unknown = Crafted(targets=[file_ref("t", b"abc")], methods=[COPY])
    refused(unknown.data(200, place(3), b"").build(), "does not name")


def test_memory_above_the_limit_is_refused_at_the_header(small: Example) -> None:
    """The declared memory is compared with the limit before anything is written."""
    target = Target(small.sources)
    with pytest.raises(DeltaError, match="limit is 1000000") as error:
        target.decoder(memory_limit_bytes=1_000_000).feed(small.delta)
    assert error.value.facts["limit"] == 1_000_000
    assert target.first_write is None


def test_a_prefix_above_the_limit_is_refused_before_it_is_collected() -> None:
    """A claimed header of gigabytes, or of more than the limit, costs nothing."""
    start = literal(b"abc").build()[:10]
    huge = start + (0xFFFFFFFF).to_bytes(4, "little") * 2
    refused(huge, "too many")
    large = start + (9 << 20).to_bytes(4, "little") + (0).to_bytes(4, "little")
    with pytest.raises(DeltaError, match="header and index need"):
        decoded(large, memory_limit_bytes=8 << 20)


@pytest.mark.unmeasured
def test_a_prefix_is_held_once() -> None:
    """Memory is that of the prefix and little more, which is what the header counts."""
    tables = varints(1 << 40, (1 << 40) - 1, 1, 1 << 20, 0, 200_000, 0, 0, 7)
    index = tables + varints(7, 0, 7) * 199_999
    far = replace(file_ref("t", b""), size_bytes=1 << 40)
    delta = Crafted(targets=[far], methods=[COPY], index=index).build()
    length = len(prefix_of(delta))
    decoder = Target([]).decoder()
    tracemalloc.start()
    try:
        for at in range(0, length, 1 << 16):
            decoder.feed(delta[at : min(at + (1 << 16), length)])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoder.header is not None
    assert peak_bytes < length + (200 << 10)


def test_a_record_that_needs_more_than_the_header_says_is_refused() -> None:
    """Declared memory is a promise that every record is held to."""
    crafted = literal(bytes(5000))
    exact = len(prefix_of(crafted.build())) + TABLES_BYTES
    body = len(crafted.records[0][1])
    crafted.memory_bytes = exact + body + 5000 - 2  # the varint is shorter than before
    refused(crafted.build(), "more than the header says")


def test_records_tile_the_target() -> None:
    """Gaps, overlaps, repeats, other files and bytes past the end are refused."""
    data = b"0123456789"
    for offset, length, file, problem in (
        (1, 9, 0, "where the one before"),
        (0, 11, 0, "past the end"),
        (0, 10, 1, "where the one before"),
        (2**62, 10, 0, "where the one before"),
    ):
        crafted = Crafted(targets=[file_ref("t", data)])
        frame = packed(bytes(length))
        crafted.data(LITERAL, place(length, offset, file), frame)
        crafted.places = [place(10)]  # the index is as it should be
        refused(crafted.build(), problem)
    twice = literal(data).data(LITERAL, place(10), packed(data))
    twice.places[-1] = None
    refused(twice.build(), "where the one before")
    empty = Crafted(targets=[file_ref("t", data)]).data(LITERAL, place(0), packed(b""))
    empty.places = [place(10)]
    refused(empty.build(), "makes no bytes")


def test_only_a_copy_spans_chunks() -> None:
    """A literal across a chunk's border is refused, however short."""
    data = bytes(CHUNK_BYTES + 2)
    crafted = Crafted(targets=[file_ref("t", data)])
    crafted.data(LITERAL, place(CHUNK_BYTES - 1), packed(data[:-3]))
    crafted.data(LITERAL, place(3, CHUNK_BYTES - 1), packed(data[-3:]))
    refused(crafted.build(), "crosses a chunk")
    whole = Crafted(targets=[file_ref("t", data)], sources=[file_ref("s", data)])
    assert decoded(whole.data(COPY, place(len(data)), varints(0)).build(), [data]) == [data]


def test_the_end_comes_when_all_is_made() -> None:
    """An end before the last byte, with other totals or at another place is refused."""
    data = b"0123456789"
    short = Crafted(targets=[file_ref("t", data)]).data(LITERAL, place(9), packed(data[:9]))
    refused(short.build(), "not complete")
    for totals in ((11, 1), (10, 2)):
        crafted = literal(data)
        crafted.end_body = varints(*totals)
        refused(crafted.build(), "other totals")
    crafted = literal(data)
    crafted.end_body = varints(10, 1, 0)
    refused(crafted.build(), "too many")
    crafted = literal(data)
    crafted.end_mark = b"\x1aEND\xe5\r\n\x8c"
    refused(crafted.build(), "its mark")


def test_the_index_must_tell_the_truth() -> None:
    """Records, tables and the end lie where the index says, or the delta is refused."""
    data = b"0123456789"
    record = len(literal(data).build()) - len(prefix_of(literal(data).build())) - 8 - 8
    good = {"records_bytes": record + 16, "end_offset": record, "tables": []}

    def indexed(runs: bytes, **changes: int) -> bytes:
        facts = {**good, **changes}
        crafted = literal(data)
        crafted.index = varints(facts["records_bytes"], facts["end_offset"]) + runs
        return crafted.build()

    assert decoded(indexed(varints(1, 1, 0, 0))) == [data]
    for runs, changes, problem in (
        (varints(1, 1, 1, 0), {}, "not where the index says"),
        (varints(1, 2, 0, 0), {}, "knows 2 chunks"),
        (varints(0, 0), {}, "knows 0 chunks"),
        (varints(1, 0, 0, 0), {}, "empty run"),
        (varints(2, 1, 0, 1, 0, 0), {}, "empty run"),
        (varints(1, 1, record, 0), {}, "past the records"),
        (varints(1, 1, 0, 1, 0, 0, 9), {}, "where the index does not"),
        (varints(1, 1, 0, 1, 0, 16, 9), {}, "table that cannot be"),
        (varints(1, 1, 0, 1, 0, 0, 0), {}, "past the records|cannot be"),
        (varints(1, 1, 0, 2, 0, 0, 1, 0, 0, 1), {}, "two tables"),
        (varints(1, 1, 0, 1, 0, 0, 9, 1), {}, "too many"),
        (varints(1, 1, 0), {}, "ends within"),
        (varints(1, 1, 0, 0), {"end_offset": record - 1}, "where the index does not"),
        (varints(1, 1, 0, 0), {"end_offset": record + 16}, "outside"),
        (varints(1, 1, 0, 0), {"records_bytes": record + 17}, "another length"),
    ):
        refused(indexed(runs, **changes), problem)


def test_tables_are_bounded_and_known_to_the_index() -> None:
    """Slots beyond the last, large tables and tables that the index lacks are refused."""
    data = b"0123456789"
    whole = put_prediction(Prediction(ranges=(SourceRange(file=0, offset=0, length=10),)))

    def with_table(body: bytes) -> Crafted:
        crafted = Crafted(targets=[file_ref("t", data)], sources=[file_ref("s", data)])
        return crafted.table(body).data(COPY, place(10), varints(0))

    assert decoded(with_table(varints(0) + whole).build(), [data]) == [data]
    good = with_table(varints(0) + whole)
    delta = good.build()
    (_, _, table_end), *_ = record_spans(delta)
    missing = with_table(varints(0) + whole)
    end = 8 + len(varints(10, 2)) + 6
    total = len(delta) - len(prefix_of(delta))
    missing.index = put_index(records_bytes=total, end_offset=total - end, runs=[], tables=[])
    missing.index = varints(total, total - end, 1, 1, table_end - len(prefix_of(delta)), 0)
    refused(missing.build(), "index does not have there", (data,))
    refused(with_table(varints(16) + whole).build(), "cannot be|slot 16", (data,))
    refused(with_table(varints(0) + bytes(9000)).build(), "too large", (data,))
    refused(with_table(varints(8) + whole).build(), "without symbol", (data,))


def test_each_slot_of_a_code_table_counts_in_the_memory() -> None:
    """Tables in one slot count once; the header must have room for every slot that is set."""
    data = b"0123456789"
    code = pack(SMALLEST)

    def with_codes(*slots: int) -> Crafted:
        crafted = Crafted(targets=[file_ref("t", data)], sources=[file_ref("s", data)])
        for slot in slots:
            crafted.table(varints(slot) + code)
        return crafted.data(COPY, place(10), varints(0))

    for slots, room in (((8,), 1), ((8, 8), 1), ((15, 8), 2)):
        crafted = with_codes(*slots)
        crafted.memory_bytes = TABLES_BYTES + room * CODE_TABLE_BYTES + 1000
        assert decoded(crafted.build(), [data]) == [data]
        crafted.memory_bytes -= 1000
        refused(crafted.build(), "more than the header says", (data,))
    crafted = with_codes(8)
    crafted.records[0] = (KIND_TABLE, varints(8) + code + bytes(9000))
    refused(crafted.build(), "too large", (data,))


def test_a_code_table_of_another_slot_is_not_taken_for_a_prediction() -> None:
    """Codes in the slots of predictions are refused, and the other way round."""
    data = b"0123456789"
    crafted = Crafted(targets=[file_ref("t", data)], sources=[file_ref("s", data)])
    crafted.table(varints(7) + pack(SMALLEST)).data(COPY, place(10), varints(0))
    refused(crafted.build(), ".", (data,))


def test_a_source_that_is_too_short_is_a_wrong_source(small: Example) -> None:
    """A read that answers with fewer bytes ends as WrongSourceError, naming the file."""
    shorter = [data[:100] for data in small.sources]
    with pytest.raises(WrongSourceError, match="ends before") as error:
        decoded(small.delta, shorter)
    assert error.value.facts["path"]


def test_what_a_callback_raises_comes_out(small: Example) -> None:
    """An error of the reader passes through unchanged, and the decoder is of no more use."""
    target = Target(small.sources)

    def broken(file: int, offset: int, length: int) -> bytes:
        raise OSError(f"{file} {offset} {length}")

    decoder = Decoder(
        read_source=broken,
        write=target.write,
        memory_limit_bytes=32 << 20,
        on_header=target.on_header,
    )
    with pytest.raises(OSError, match="0 "):
        decoder.feed(small.delta)
    with pytest.raises(DeltaError, match="failed before"):
        decoder.feed(b"x")


def test_sizes_beyond_4_gib_are_exact() -> None:
    """A copy of 5 GiB has places and index beyond 32 bits; resumed near its end it is right."""
    size = 5 << 30
    far = file_ref("t", b"")
    big = type(far)(path="t", size_bytes=size, digest=far.digest)
    crafted = Crafted(
        targets=[big], sources=[type(far)(path="s", size_bytes=size, digest=far.digest)]
    )
    delta = crafted.data(COPY, place(size), varints(0)).build()
    last = chunk_count(size) - 1
    seen = []
    decoder, (span,) = Decoder.resume(
        prefix_of(delta),
        last,
        read_source=lambda file, offset, length: np.full(
            length, offset >> 18 & 255, np.uint8
        ).tobytes(),
        write=lambda file, offset, data: seen.append((file, offset, len(data))),
        memory_limit_bytes=32 << 20,
    )
    decoder.feed(delta[span.offset :])
    decoder.finish()
    assert seen[0][:2] == (0, last << 20)
    assert sum(length for _, _, length in seen) == CHUNK_BYTES


@pytest.mark.unmeasured
def test_predictions_that_are_not_plain_are_announced() -> None:
    """The header's flag allows dimensions, maps and long tables, and costs memory."""
    data = b"0123456789" * 20_000
    strided = SourceRange(file=0, offset=8, length=2, dimensions=((5, -2),))
    body = varints(0) + put_prediction(Prediction(ranges=(strided,)))

    def with_table(body: bytes, **changes: object) -> Crafted:
        crafted = Crafted(targets=[file_ref("t", data)], sources=[file_ref("s", data)])
        crafted = crafted.table(body).data(COPY, place(len(data)), varints(0))
        return replace(crafted, **changes)

    assert decoded(with_table(body, mapped=True).build(), [data]) == [data]
    refused(with_table(body).build(), "not plain, which the header does not say", (data,))
    refused(with_table(body, mapped=True, memory_bytes=MAPPED_BYTES).build(), "memory", (data,))
    long = varints(0) + bytes(336_000)
    refused(with_table(long, mapped=True).build(), "too large", (data,))
    refused(with_table(long[:335_000], mapped=True).build(), "0 source ranges", (data,))
