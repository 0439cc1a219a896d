"""Preamble, header and index, after "Container", "Header" and "Index" of FORMAT.md."""

from __future__ import annotations

import unicodedata
import zlib
from dataclasses import dataclass

from tests.independent_decoder.reading import BEYOND, CHUNK, MIB, Reader, need

MAGIC = bytes.fromhex("8B454447450D0A1A")
METHODS_KNOWN = range(1, 6)
FILES_MAX = 4096


@dataclass(frozen=True)
class File:
    """A source or target file as the header lists it."""

    path: str
    size: int
    digest: bytes

    @property
    def chunks(self) -> int:
        return -(-self.size // CHUNK)


@dataclass(frozen=True)
class Header:
    """What a container says of itself."""

    maps: bool
    reads_target: bool
    memory: int
    methods: list[int]
    sources: list[File]
    targets: list[File]


@dataclass(frozen=True)
class Run:
    """The record that makes the first bytes of these chunks."""

    offset: int
    chunks: int


@dataclass(frozen=True)
class TableEntry:
    """Where a table record lies, and the slot it sets."""

    offset: int
    slot: int
    length: int


@dataclass(frozen=True)
class Index:
    """Where the records lie."""

    records_bytes: int
    end_offset: int
    runs: list[Run]
    tables: list[TableEntry]


@dataclass(frozen=True)
class Prefix:
    """All that stands before the records."""

    length: int
    header: Header
    index: Index


def read_prefix(delta: bytes, memory_limit: int) -> Prefix:
    """The prefix, refused where it is not as the text says."""
    need(len(delta) >= 18 and delta[:8] == MAGIC, "magic")
    preamble = Reader(delta[8:18])
    need(preamble.u16s(1) == [1], "format version")
    header_bytes, index_bytes = preamble.u32(), preamble.u32()
    length = 22 + header_bytes + index_bytes
    need(length <= 16 * MIB, "the prefix is too long")
    need(len(delta) >= length, "truncated")
    check = int.from_bytes(delta[length - 4 : length], "little")
    need(zlib.crc32(delta[: length - 4]) == check, "check of the prefix")
    header = read_header(delta[18 : 18 + header_bytes])
    need(header.memory <= memory_limit, "memory above the limit")
    chunks = sum(file.chunks for file in header.targets)
    index = read_index(delta[18 + header_bytes : length - 4], chunks)
    sizes = sum(file.size for file in header.targets)
    most = 65536 + 64 * len(header.targets) + 2 * sizes
    need(index.records_bytes <= most, "the records are too long")
    return Prefix(length, header, index)


def read_header(data: bytes) -> Header:
    reader = Reader(data)
    flags = reader.varint()
    need(flags < 8, "a critical flag")
    memory = reader.varint()
    method_count = reader.varint()
    need(method_count <= 64, "number of methods")
    methods = [reader.varint() for _ in range(method_count)]
    need(methods == sorted(set(methods)), "methods do not ascend")
    need(all(method in METHODS_KNOWN for method in methods), "an unknown method")
    artifacts = reader.varint()
    need(artifacts <= 1, "not supported: several source artifacts")
    sources = read_files(reader) if artifacts else []
    targets = read_files(reader)
    need(bool(flags & 1) or len(targets) == 1, "several targets of a single file")
    reader.end("the header")
    return Header(bool(flags & 2), bool(flags & 4), memory, methods, sources, targets)


def read_files(reader: Reader) -> list[File]:
    count = reader.varint()
    need(1 <= count <= FILES_MAX, "number of files")
    files: list[File] = []
    for _ in range(count):
        path = read_path(reader.take(reader.varint()))
        need(not files or files[-1].path < path, "paths do not ascend")
        files.append(File(path, reader.varint(), reader.take(32)))
    folded = {unicodedata.normalize("NFC", file.path.casefold()) for file in files}
    need(len(folded) == count, "two paths are equal when folded")
    for path in folded:
        segments = path.split("/")
        for depth in range(1, len(segments)):
            need("/".join(segments[:depth]) not in folded, "a path is a folder of another")
    need(sum(file.size for file in files) < BEYOND, "sum of the sizes")
    return files


def read_path(raw: bytes) -> str:
    need(len(raw) <= 1024, "a path is too long")
    path = raw.decode("utf-8")  # its error is a ValueError
    segments = path.split("/")
    need(len(segments) <= 16, "a path has too many segments")
    for segment in segments:
        need(segment not in ("", ".", ".."), "a segment of a path")
        need(len(segment.encode()) <= 255, "a segment of a path is too long")
    for character in path:
        need(character not in "\\:", "a character of a path")
        need(unicodedata.category(character) not in ("Cc", "Cf", "Cs"), "a character of a path")
    need(unicodedata.normalize("NFC", path) == path, "a path is not in form NFC")
    return path


def read_index(data: bytes, chunks: int) -> Index:
    reader = Reader(data)
    records_bytes, end_offset = reader.varint(), reader.varint()
    need(end_offset < records_bytes, "end offset")
    runs: list[Run] = []
    at = covered = 0
    for number in range(reader.varint()):
        count, step = reader.varint(), reader.varint()
        need(count >= 1 and (step >= 1 or number == 0), "a run")
        at, covered = at + step, covered + count
        need(at < end_offset and covered <= chunks, "a run lies outside")
        runs.append(Run(at, count))
    need(covered == chunks, "runs do not cover the chunks")
    tables: list[TableEntry] = []
    at = before = 0
    for number in range(reader.varint()):
        step, slot, length = reader.varint(), reader.varint(), reader.varint()
        need(slot < 16 and (step >= 1 or number == 0), "a table entry")
        need(step >= before, "a table begins before the end of the one before it")
        at, before = at + step, length
        need(at < end_offset, "a table lies outside")
        tables.append(TableEntry(at, slot, length))
    reader.end("the index")
    return Index(records_bytes, end_offset, runs, tables)
