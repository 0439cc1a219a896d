"""A decoder of deltas written from edge_sdk/delta/FORMAT.md alone: this is its door.

It shares no code with ours. Whatever it refuses raises ValueError.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.independent_decoder.addresses import Addresses
from tests.independent_decoder.code_tables import ALONE, BY_LEAN, DIFFERENCE, CodeTable
from tests.independent_decoder.frames import unpack
from tests.independent_decoder.patches import patched
from tests.independent_decoder.places import Places
from tests.independent_decoder.predictions import Prediction
from tests.independent_decoder.prefix import Run, TableEntry, read_prefix
from tests.independent_decoder.reading import MIB, Reader, digest, need
from tests.independent_decoder.streams import Shape, coded

END, TABLE = 0, 128
COPY, LITERAL, PATCH, RESIDUAL, PLANES = 1, 2, 3, 4, 5
END_MARK = bytes.fromhex("1A454E44E50D0A8B")
TABLE_MAX = 8 << 10
PREDICTION_MAX = 328 << 10


def decode(delta: bytes, sources: Sequence[bytes], memory_limit: int = 1 << 32) -> dict[str, bytes]:
    """Path to bytes of each target file; proved by the digests of the header."""
    decoder = Decoder(delta, sources, memory_limit)
    made = decoder.run(0, 0, 0, 0)
    targets = decoder.prefix.header.targets
    for file, data in zip(targets, made, strict=True):
        need(digest(data) == file.digest, f"digest of {file.path}")
    return {file.path: data for file, data in zip(targets, made, strict=True)}


def decode_from(delta: bytes, sources: Sequence[bytes], chunk: int, before: bytes = b"") -> bytes:
    """All target bytes from the first of a chunk on, without the records before it.

    ``before`` is the target before the chunk; only where the header says that it is read.
    """
    decoder = Decoder(delta, sources, 1 << 32)
    begin = decoder.places.chunk_start(chunk)
    at_hand = len(before) == begin or not decoder.prefix.header.reads_target
    need(at_hand, "bytes before the chunk are not at hand")
    return b"".join(decoder.begin_at(chunk, before))[begin:]


@dataclass(frozen=True)
class Record:
    """A record that was collected and whose check is right."""

    offset: int
    length: int
    kind: int
    body: bytes


class Decoder:
    """One container and its sources, and what the slots hold."""

    def __init__(self, delta: bytes, sources: Sequence[bytes], memory_limit: int) -> None:
        self.prefix = read_prefix(delta, memory_limit)
        self.records = Reader(delta[self.prefix.length :])
        extra = self.records.left() - self.prefix.index.records_bytes
        need(extra >= 0, "truncated")
        need(extra == 0, "bytes behind the end mark")
        self.sources = [bytes(source) for source in sources]
        need(len(sources) == len(self.prefix.header.sources), "number of sources")
        for file, data in zip(self.prefix.header.sources, self.sources, strict=True):
            need(len(data) == file.size and digest(data) == file.digest, "a source differs")
        self.places = Places([file.size for file in self.prefix.header.targets])
        self.made = bytearray()
        reads_target = self.prefix.header.reads_target
        self.addresses = Addresses(self.sources, self.made, target=reads_target)
        self.predictions: dict[int, Prediction] = {}
        self.codes: dict[int, CodeTable] = {}

    def begin_at(self, chunk: int, before: bytes) -> list[bytes]:
        """The tables in force at a chunk's first record, then all from there on."""
        index = self.prefix.index
        number, left = 0, chunk
        while left >= index.runs[number].chunks:
            left -= index.runs[number].chunks
            number += 1
        begin = index.runs[number].offset
        tables = [entry for entry in index.tables if entry.offset < begin]
        in_force = {entry.slot: entry for entry in tables}.values()
        for entry in sorted(in_force, key=lambda entry: entry.offset):
            self.records.at = entry.offset
            self._set_table(self.record(), entry)
        self.records.at = begin
        place = Reader(self.record().body)
        self.records.at = begin
        file, offset = place.varint(), place.varint()
        # A copy or a patch may begin before the chunk, in an earlier file too.
        first = self.places.position(file, offset)
        need(first <= self.places.chunk_start(chunk), "the first record begins behind the chunk")
        # What stands before the record is at hand only where the header says that it is read.
        self.made += before[:first] if self.prefix.header.reads_target else bytes(first)
        return self.run(file, offset, number, len(tables))

    def record(self) -> Record:
        """The next record."""
        reader = self.records
        offset = reader.at
        kind = reader.take(1)[0]
        need(kind <= TABLE, "kind of a record")
        body_bytes = reader.varint(most=3)
        need(body_bytes <= MIB + 65536, "a body is too long")
        body = reader.take(body_bytes)
        check = zlib.crc32(reader.data[offset : reader.at])
        need(reader.u32() == check, "check of a record")
        return Record(offset, reader.at - offset, kind, body)

    def _set_table(self, record: Record, entry: TableEntry | None) -> None:
        need(record.kind == TABLE, "no table where the index says")
        reader = Reader(record.body)
        slot = reader.varint()
        need(entry == TableEntry(record.offset, slot, record.length), "a table is not in the index")
        need(slot < 16, "slot of a table")
        maps = self.prefix.header.maps
        most = PREDICTION_MAX if slot < 8 and maps else TABLE_MAX
        need(len(record.body) <= most, "a table is too long")
        if slot < 8:
            self.predictions[slot] = Prediction(reader.rest(), self.sources, maps)
        else:
            self.codes[slot] = CodeTable(reader.rest())
            self._check_memory(0)

    def run(self, file: int, offset: int, runs_before: int, tables_before: int) -> list[bytes]:
        """The bytes of each file; those before this place are what they were."""
        index = self.prefix.index
        if self.made:
            need(len(self.made) == self.places.position(file, offset), "the first place")
        runs = iter(index.runs[runs_before:])
        tables = iter(index.tables[tables_before:])
        from_start = self.records.at == 0
        count = 0
        while (record := self.record()).kind != END:
            count += 1
            if record.kind == TABLE:
                self._set_table(record, next(tables, None))
            else:
                self.made += self._data(record, runs)
        need(len(self.made) == self.places.total, "files are not complete")
        need(next(runs, None) is None, "a run without a record")
        need(next(tables, None) is None, "a table without a record")
        need(record.offset == index.end_offset, "the end is not where the index says")
        reader = Reader(record.body)
        need(reader.varint() == self.places.total, "sum of the sizes")
        need(reader.varint() == count or not from_start, "number of records")
        reader.end("the end record")
        need(self.records.take(8) == END_MARK, "end mark")
        self.records.end("the end mark")
        return self.places.split(bytes(self.made))

    def _data(self, record: Record, runs: Iterator[Run]) -> bytes:
        """What a data record makes, its place compared with where it must lie."""
        need(record.kind in self.prefix.header.methods, "a method is not in the header")
        reader = Reader(record.body)
        file, offset, length = reader.varint(), reader.varint(), reader.varint()
        origin = len(self.made)
        need(origin < self.places.total, "a record behind the last file")
        need((file, offset) == self.places.place(origin) and length >= 1, "a place")
        need(origin + length <= self.places.total, "a place lies outside of the target")
        if record.kind not in (COPY, PATCH):
            need(length <= self.places.left_of_chunk(origin), "a place over chunks")
        begun = self.places.chunks_begun(origin, origin + length)
        if begun:
            need(next(runs, None) == Run(record.offset, begun), "a record is not in the index")
        wanted = {COPY: min(length, 262144), LITERAL: length, PATCH: 4 * MIB}
        wanted |= {RESIDUAL: 3 * length, PLANES: 3 * length}
        self._check_memory(len(record.body) + wanted[record.kind])
        if record.kind in (RESIDUAL, PLANES):
            return self._coded(record.kind, length, reader)
        if record.kind == LITERAL:
            return unpack(reader.rest(), length)
        if record.kind == PATCH:
            return patched(reader, length, origin, self.addresses)
        address = reader.varint()
        reader.end("a copy")
        return self.addresses.read(address, length)

    def _check_memory(self, record_bytes: int) -> None:
        """A record must not need more than the header says."""
        header = self.prefix.header
        tables = 65536 + (12 * MIB if header.maps else 0) + 5 * MIB // 4 * len(self.codes)
        need(self.prefix.length + tables + record_bytes <= header.memory, "too little memory")

    def _coded(self, kind: int, length: int, reader: Reader) -> bytes:
        slot = position = 0
        if kind == RESIDUAL:
            slot, position = reader.varint(), reader.varint()
            need(slot in self.predictions, "slot of a prediction")
        code_slot, phase, lanes = reader.varint(), reader.varint(), reader.varint()
        need(code_slot in self.codes, "slot of a code table")
        need(lanes in (0, 3, 5), "lanes")
        code = self.codes[code_slot]
        shape = Shape.of(code, length, phase)
        end = length - shape.tail
        predicted = leans = None
        if kind == PLANES:
            if code.model != ALONE:
                need(code.model == DIFFERENCE and not code.floats, "model of a record")
                predicted = bytes(end - phase)
        elif code.model == BY_LEAN:
            width = code.width // 8
            read, leans = self.predictions[slot].read_leaning(position, length, phase, width)
            predicted = read[phase:end]
        else:
            need(code.model != ALONE, "model of a record")
            predicted = self.predictions[slot].read(position, length)[phase:end]
        return coded(code, predicted, shape, 1 << lanes, reader, leans)
