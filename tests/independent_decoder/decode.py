"""A decoder of deltas written from edge_sdk/delta/FORMAT.md alone: this is its door.

It shares no code with ours. Whatever it refuses raises ValueError.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.independent_decoder.code_tables import ALONE, DIFFERENCE, CodeTable
from tests.independent_decoder.frames import unpack
from tests.independent_decoder.patches import patched
from tests.independent_decoder.predictions import Prediction
from tests.independent_decoder.prefix import Run, TableEntry, read_prefix
from tests.independent_decoder.reading import CHUNK, MIB, Reader, digest, need
from tests.independent_decoder.streams import coded

END, TABLE = 0, 128
COPY, LITERAL, PATCH, RESIDUAL, PLANES = 1, 2, 3, 4, 5
END_MARK = bytes.fromhex("1A454E44E50D0A8B")


def decode(delta: bytes, sources: Sequence[bytes], memory_limit: int = 1 << 32) -> dict[str, bytes]:
    """Path to bytes of each target file; proved by the digests of the header."""
    decoder = Decoder(delta, sources, memory_limit)
    made = decoder.run(0, 0, 0, 0)
    targets = decoder.prefix.header.targets
    for file, data in zip(targets, made, strict=True):
        need(digest(data) == file.digest, f"digest of {file.path}")
    return {file.path: data for file, data in zip(targets, made, strict=True)}


def decode_from(delta: bytes, sources: Sequence[bytes], chunk: int, before: bytes = b"") -> bytes:
    """All target bytes from the first of a chunk on, without the records before it. ``before``:
    the bytes that precede it, where records may read them."""
    decoder = Decoder(delta, sources, 1 << 32)
    file, offset = decoder.place_of(chunk)
    made = decoder.begin_at(chunk, file, offset, before)
    return made[file][offset:] + b"".join(made[file + 1 :])


@dataclass(frozen=True)
class Record:
    """A record that was collected and whose check is right."""

    offset: int
    length: int
    kind: int
    body: bytes


class Made:
    """The bytes of the target files so far, one file behind the other."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.starts = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        self.data = bytearray()

    def place(self) -> tuple[int, int]:
        """File and offset of the next byte."""
        done = len(self.data)
        file = max(number for number, start in enumerate(self.starts[:-1]) if start <= done)
        return file, done - self.starts[file]

    def begun(self, length: int) -> int:
        """How many chunks have their first byte among the next ``length``."""
        first, end = len(self.data), len(self.data) + length
        borders = (
            start + at
            for start, size in zip(self.starts, self.sizes, strict=False)
            for at in range(0, size, CHUNK)
        )
        return sum(first <= border < end for border in borders)

    def files(self) -> list[bytes]:
        ends = self.starts[1:]
        return [bytes(self.data[a:b]) for a, b in zip(self.starts, ends, strict=False)]


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
        self.predictions: dict[int, Prediction] = {}
        self.codes: dict[int, CodeTable] = {}

    def place_of(self, chunk: int) -> tuple[int, int]:
        """The file in which a chunk lies, and its offset there."""
        for number, file in enumerate(self.prefix.header.targets):
            if chunk < file.chunks:
                return number, chunk * CHUNK
            chunk -= file.chunks
        raise ValueError("no such chunk")

    def begin_at(self, chunk: int, file: int, offset: int, before: bytes) -> list[bytes]:
        """The tables in force at a chunk's first record, then all from there on."""
        index = self.prefix.index
        number = 0
        while chunk >= index.runs[number].chunks:
            chunk -= index.runs[number].chunks
            number += 1
        begin = index.runs[number].offset
        earlier = [entry for entry in index.tables if entry.offset < begin]
        in_force = {entry.slot: entry for entry in earlier}.values()
        for entry in sorted(in_force, key=lambda entry: entry.offset):
            self.records.at = entry.offset
            self._set_table(self.record(), entry)
        self.records.at = begin
        place = Reader(self.record().body)
        self.records.at = begin
        # A copy or a patch may begin before the chunk.
        first = place.varint(), place.varint()
        need(first <= (file, offset), "the first record begins behind the chunk")
        return self.run(*first, number, len(earlier), before)

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
        most = 335872 if slot < 8 and maps else 8192
        need(len(record.body) <= most, "a table is too long")
        if slot < 8:
            self.predictions[slot] = Prediction(reader.rest(), self.sources, maps)
        else:
            self.codes[slot] = CodeTable(reader.rest())
            self._check_memory(0)

    def run(
        self, file: int, offset: int, runs_before: int, tables_before: int, before: bytes = b""
    ) -> list[bytes]:
        """The bytes of each file; those before the beginning are ``before``, or zero."""
        targets, index = self.prefix.header.targets, self.prefix.index
        made = Made([one.size for one in targets])
        made.data += before[: made.starts[file] + offset]
        made.data += bytes(made.starts[file] + offset - len(made.data))
        runs = iter(index.runs[runs_before:])
        tables = iter(index.tables[tables_before:])
        from_start = self.records.at == 0
        count = 0
        while (record := self.record()).kind != END:
            count += 1
            if record.kind == TABLE:
                self._set_table(record, next(tables, None))
                continue
            made.data += self._data(record, made, runs)
        need(len(made.data) == made.starts[-1], "files are not complete")
        need(next(runs, None) is None, "a run without a record")
        need(next(tables, None) is None, "a table without a record")
        need(record.offset == index.end_offset, "the end is not where the index says")
        reader = Reader(record.body)
        need(reader.varint() == sum(one.size for one in targets), "sum of the sizes")
        need(reader.varint() == count or not from_start, "number of records")
        reader.end("the end record")
        need(self.records.take(8) == END_MARK, "end mark")
        self.records.end("the end mark")
        return made.files()

    def _data(self, record: Record, made: Made, runs: Iterator[Run]) -> bytes:
        """What a data record makes, its place compared with where it must lie."""
        need(len(made.data) < made.starts[-1], "a record behind the last file")
        file, done = made.place()
        need(record.kind in self.prefix.header.methods, "a method is not in the header")
        reader = Reader(record.body)
        place = reader.varint(), reader.varint()
        length = reader.varint()
        need(place == (file, done) and length >= 1, "a place")
        end = done + length
        if record.kind in (COPY, PATCH):
            need(len(made.data) + length <= made.starts[-1], "a place lies outside of the target")
        else:
            need(end <= self.prefix.header.targets[file].size, "a place lies outside of its file")
            need(done // CHUNK == (end - 1) // CHUNK, "a place over chunks")
        begun = made.begun(length)
        if begun:
            need(next(runs, None) == Run(record.offset, begun), "a record is not in the index")
        wanted = {COPY: min(length, 262144), LITERAL: length, PATCH: 4 * MIB}
        wanted |= {RESIDUAL: 3 * length, PLANES: 3 * length}
        self._check_memory(len(record.body) + wanted[record.kind])
        if record.kind in (RESIDUAL, PLANES):
            return self._coded(record.kind, length, reader)
        if record.kind == LITERAL:
            return unpack(reader.rest(), length)
        there = b"".join(self.sources)
        origin = len(made.data)
        if self.prefix.header.repeats:
            there += made.data
        if record.kind == PATCH:
            return patched(reader, length, there, origin)
        address = reader.varint()
        reader.end("a copy")
        need(address + length <= len(there), "a copy of what is not there")
        return there[address : address + length]

    def _check_memory(self, record_bytes: int) -> None:
        """A record must not need more than the header says."""
        header = self.prefix.header
        tables = 65536 + (8 * MIB if header.maps else 0) + 5 * MIB // 4 * len(self.codes)
        need(self.prefix.length + tables + record_bytes <= header.memory, "too little memory")

    def _coded(self, kind: int, length: int, reader: Reader) -> bytes:
        predicted = None
        if kind == RESIDUAL:
            slot, position = reader.varint(), reader.varint()
            need(slot in self.predictions, "slot of a prediction")
            predicted = self.predictions[slot].read(position, length)
        slot, phase, lanes = reader.varint(), reader.varint(), reader.varint()
        need(slot in self.codes, "slot of a code table")
        need(lanes in (0, 3, 5), "lanes")
        code = self.codes[slot]
        from_zero = kind == PLANES and code.model == DIFFERENCE and not code.floats
        need(from_zero or (code.model == ALONE) == (kind == PLANES), "model of a record")
        if from_zero:
            predicted = bytes(length)
        return coded(code, predicted, length, phase, 1 << lanes, reader)
