"""The container: limits, header and index. Source: FORMAT.md, "Container" to "Index"."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import (
    CHUNK_BYTES,
    DeltaError,
    Digest,
    FormatError,
    check_paths,
    chunk_count,
)
from edge_sdk.delta.varint import VALUE_MAX, Cursor, put_varint, varints

FORMAT_VERSION = 1

MAGIC = b"\x8bEDGE\r\n\x1a"
END_MARK = b"\x1aEND\xe5\r\n\x8b"
PREAMBLE_BYTES = len(MAGIC) + 2 + 4 + 4
CHECK_BYTES = 4

PREFIX_BYTES_MAX = 16 << 20
_RECORDS_BYTES_FREE = 64 << 10
_RECORDS_BYTES_PER_FILE = 64
RECORD_BODY_BYTES_MAX = CHUNK_BYTES + (64 << 10)
FILES_MAX = 4096
METHODS_MAX = 64
PREDICTION_SLOTS = 8
CODE_SLOTS = 8  # behind those of predictions
TABLE_SLOTS = PREDICTION_SLOTS + CODE_SLOTS
TABLE_BODY_BYTES_MAX = 8 << 10
# A prediction that is not plain may hold factors for each channel, or each row and column.
MAPPED_TABLE_BODY_BYTES_MAX = 328 << 10
# What a decoder needs whatever the records are: all predictions at their largest.
TABLES_BYTES = PREDICTION_SLOTS * TABLE_BODY_BYTES_MAX
# What it needs for each slot that ever holds a code table: the largest, made ready for use.
CODE_TABLE_BYTES = 5 << 18
# What it needs besides where predictions are not plain: lists, gathered and mapped numbers.
MAPPED_BYTES = 12 << 20

DEFAULT_MEMORY_LIMIT_BYTES = 32 << 20

# More than the chunks of 4096 files of 2**63 bytes together.
_CHUNKS_MAX = 1 << 44
# Entries of the index that are read at once.
_BLOCK_ENTRIES_MIN = 16
_BLOCK_ENTRIES_MAX = 512
Numbers = NDArray[np.uint64]

_FLAG_TARGET_FOLDER = 1
_FLAG_MAPPED = 2
_FLAG_REPEATS = 4


def check_of(data: bytes | bytearray | memoryview) -> bytes:
    """The 4 bytes that guard a piece of the container against accidents (CRC-32)."""
    return zlib.crc32(data).to_bytes(CHECK_BYTES, "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A source or target file, named within its artifact."""

    path: str
    size_bytes: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteSpan:
    """A range of the container, counted from its first byte."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRun:
    """Consecutive chunks whose first bytes come from one record at ``offset``."""

    first_chunk: int
    chunks: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableEntry:
    """Where one table record lies; ``length`` counts the whole record."""

    offset: int
    slot: int
    length: int


def _table(offset: int, slot: int, length: int) -> TableEntry:
    return TableEntry(offset=offset, slot=slot, length=length)


class Index:
    """Where each chunk's record and each table lies. Offsets count from the end of the prefix.

    Holds the bytes as they came and reads them anew for each question, so that its memory
    is that of the bytes however many chunks they describe.
    """

    def __init__(self, body: bytes | memoryview) -> None:
        cursor = Cursor(body, "the index")
        self.body = body
        self.records_bytes = cursor.varint()
        self.end_offset = cursor.varint()
        self._runs_at = cursor.position
        self._tables_at = 0

    @property
    def chunk_count(self) -> int:
        return sum(int(chunks.sum()) for chunks, _ in self._run_blocks())

    @property
    def table_count(self) -> int:
        return sum(len(offsets) for offsets, _, _ in self._table_blocks())

    def runs(self, chunk: int = 0) -> Iterator[ChunkRun]:
        """From the one that holds ``chunk`` on; chunks of all target files are numbered through.

        Raises: DeltaError.
        """
        first = 0
        for lengths, offsets in self._run_blocks():
            following = first + int(lengths.sum())
            if following > chunk:
                for chunks, offset in zip(lengths.tolist(), offsets.tolist(), strict=True):
                    if first + chunks > chunk:
                        yield ChunkRun(first_chunk=first, chunks=chunks, offset=offset)
                    first += chunks
            first = following

    def tables(self, behind: int = -1) -> Iterator[TableEntry]:
        """Those behind the offset ``behind``, in order of their offsets. Raises: DeltaError."""
        for columns in self._table_blocks():
            if int(columns[0][-1]) > behind:
                for entry in zip(*(column.tolist() for column in columns), strict=True):
                    if entry[0] > behind:
                        yield _table(*entry)

    def check(self, chunks_wanted: int) -> None:
        """Reads all of it once. Raises: DeltaError where it cannot be true."""
        if not self.end_offset < self.records_bytes:
            raise DeltaError("the index has its end outside the container")
        chunks = self.chunk_count
        if chunks != chunks_wanted:
            raise DeltaError(f"the index knows {chunks} chunks; the target has {chunks_wanted}")
        end = 0
        for offsets, slots, lengths in self._table_blocks():
            ends = offsets + lengths
            apart = (offsets[1:] >= ends[:-1]).all() and int(offsets[0]) >= end
            if not (apart and (slots < np.uint64(TABLE_SLOTS)).all() and lengths.all()):
                raise DeltaError("the index holds a table that cannot be")
            end = int(ends[-1])
            if end > self.end_offset:
                raise DeltaError("the index points past the records")

    def run_of(self, chunk: int) -> ChunkRun:
        """The run that holds ``chunk``. Raises: DeltaError."""
        for run in self.runs(chunk):
            return run
        raise DeltaError(f"the index knows no chunk {chunk}")

    def tables_in_force(self, offset: int) -> tuple[TableEntry, ...]:
        """The tables that a record at ``offset`` may use, in order of their offsets."""
        latest: dict[int, tuple[int, int, int]] = {}
        for offsets, slots, lengths in self._table_blocks():
            count = int(np.searchsorted(offsets, np.uint64(offset)))
            last = dict(zip(slots[:count].tolist(), range(count), strict=True))
            for slot, number in last.items():
                latest[slot] = int(offsets[number]), slot, int(lengths[number])
            if count < len(offsets):
                break
        return tuple(_table(*entry) for entry in sorted(latest.values()))

    def _run_blocks(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Chunks and offsets of runs, in blocks, none of them empty."""
        cursor = Cursor(self.body, "the index")
        cursor.position = self._runs_at
        problem = "holds an empty run of chunks, or one that goes on"
        for (chunks, _), offsets in self._blocks(cursor, 2, 1, problem):
            if not chunks.all():
                raise cursor.error(problem)
            if (chunks > np.uint64(_CHUNKS_MAX)).any():  # so that no sum of them can wrap
                raise cursor.error("holds a run of more chunks than any target has")
            yield chunks, offsets
        self._tables_at = cursor.position

    def _table_blocks(self) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
        """Offsets, slots and lengths of tables, in blocks, none of them empty."""
        if not self._tables_at:
            for _ in self._run_blocks():
                pass
        cursor = Cursor(self.body, "the index")
        cursor.position = self._tables_at
        for columns, offsets in self._blocks(cursor, 3, 0, "holds two tables at one place"):
            yield offsets, columns[1], columns[2]
        cursor.end()

    def _blocks(
        self, cursor: Cursor, width: int, steps_at: int, problem: str
    ) -> Iterator[tuple[Numbers, Numbers]]:
        """The columns of a list of entries, and their offsets. A few at first: most indexes are
        short, and of the others often only the beginning is wanted."""
        left, most = cursor.varint(), _BLOCK_ENTRIES_MIN
        offset, first = np.uint64(0), 1  # only the first step may be 0
        while left:
            count = min(left, most)
            columns = cursor.varints(count * width).reshape(count, width).T
            steps = columns[steps_at]
            if not steps[first:].all():
                raise cursor.error(problem)
            offsets = np.cumsum(steps, dtype=np.uint64) + offset
            # Two numbers below 2**63 do not wrap: the first offset that is too large is seen.
            if (offsets >= np.uint64(self.end_offset)).any():
                raise DeltaError("the index points past the records")
            yield columns, offsets
            offset, first = offsets[-1], 0
            left -= count
            most = min(2 * most, _BLOCK_ENTRIES_MAX)


@dataclass(frozen=True)  # no slots: cached_property needs a dictionary
class Header:
    """What a container says before its first record.

    ``memory_bytes`` is what a decoder needs (FORMAT.md, "Memory"); ``methods`` are numbers,
    ascending. ``folder`` tells whether the target is a folder or one file, ``mapped`` whether
    predictions may have dimensions and value maps, ``repeats`` whether records may read what
    was made of the target.
    """

    folder: bool
    mapped: bool
    repeats: bool
    memory_bytes: int
    methods: tuple[int, ...]
    artifacts: tuple[tuple[FileRef, ...], ...]
    targets: tuple[FileRef, ...]
    index: Index
    prefix_bytes: int

    @cached_property
    def sources(self) -> tuple[FileRef, ...]:
        """The files of all source artifacts, as records number them."""
        return tuple(file for artifact in self.artifacts for file in artifact)

    @property
    def delta_bytes(self) -> int:
        """Length of the whole container."""
        return self.prefix_bytes + self.index.records_bytes

    @property
    def target_bytes(self) -> int:
        return sum(file.size_bytes for file in self.targets)

    @cached_property
    def first_chunks(self) -> tuple[int, ...]:
        """The global number of each target file's first chunk."""
        counts = (chunk_count(file.size_bytes) for file in self.targets)
        return tuple(accumulate(counts, initial=0))[:-1]

    @property
    def chunk_count(self) -> int:
        return sum(chunk_count(file.size_bytes) for file in self.targets)

    def chunk_start(self, chunk: int) -> tuple[int, int]:
        """Target file and offset at which a global chunk begins."""
        file = max(
            number
            for number, first in enumerate(self.first_chunks)
            if first <= chunk and self.targets[number].size_bytes
        )
        return file, (chunk - self.first_chunks[file]) * CHUNK_BYTES


def put_header(
    *,
    folder: bool,
    mapped: bool = False,
    repeats: bool = False,
    memory_bytes: int,
    methods: Sequence[int],
    sources: Sequence[FileRef],
    targets: Sequence[FileRef],
) -> bytes:
    """The header's body, with the files of at most one source artifact."""
    flags = (_FLAG_TARGET_FOLDER if folder else 0) | (_FLAG_MAPPED if mapped else 0)
    flags |= _FLAG_REPEATS if repeats else 0
    out = bytearray(varints(flags, memory_bytes, len(methods)))
    for method in methods:
        put_varint(out, method)
    put_varint(out, 1 if sources else 0)
    if sources:
        _put_files(out, sources)
    _put_files(out, targets)
    return bytes(out)


def _put_files(out: bytearray, files: Sequence[FileRef]) -> None:
    put_varint(out, len(files))
    for file in files:
        path = file.path.encode()
        put_varint(out, len(path))
        out += path
        put_varint(out, file.size_bytes)
        out += file.digest.raw


def put_index(
    *,
    records_bytes: int,
    end_offset: int,
    runs: Sequence[ChunkRun],
    tables: Sequence[TableEntry],
) -> bytes:
    """The index's body."""
    out = bytearray(varints(records_bytes, end_offset, len(runs)))
    before = 0
    for run in runs:
        out += varints(run.chunks, run.offset - before)
        before = run.offset
    put_varint(out, len(tables))
    before = 0
    for table in tables:
        out += varints(table.offset - before, table.slot, table.length)
        before = table.offset
    return bytes(out)


def put_prefix(header: bytes, index: bytes) -> bytes:
    """Everything before the first record."""
    if len(header) + len(index) > PREFIX_BYTES_MAX - PREAMBLE_BYTES - CHECK_BYTES:
        raise DeltaError("header and index together are longer than a delta's may be")
    prefix = b"".join(
        (
            MAGIC,
            FORMAT_VERSION.to_bytes(2, "little"),
            len(header).to_bytes(4, "little"),
            len(index).to_bytes(4, "little"),
            header,
            index,
        )
    )
    return prefix + check_of(prefix)


def prefix_length(preamble: bytes | memoryview) -> int:
    """Bytes of the prefix, from its first ``PREAMBLE_BYTES``. Raises: DeltaError."""
    if bytes(preamble[: len(MAGIC)]) != MAGIC:
        raise DeltaError("this is not a delta: it begins with other bytes")
    version = int.from_bytes(preamble[8:10], "little")
    if version != FORMAT_VERSION:
        raise DeltaError(
            f"the delta has format version {version}; this release knows {FORMAT_VERSION}",
            version=version,
        )
    header_bytes = int.from_bytes(preamble[10:14], "little")
    index_bytes = int.from_bytes(preamble[14:18], "little")
    length = PREAMBLE_BYTES + header_bytes + index_bytes + CHECK_BYTES
    if length > PREFIX_BYTES_MAX:
        raise DeltaError(f"the delta's header and index claim {length} bytes: too many")
    return length


def parse_prefix(prefix: bytes | memoryview) -> Header:
    """Reads a complete prefix, which the header keeps. Raises: DeltaError."""
    if len(prefix) < PREAMBLE_BYTES or prefix_length(prefix) != len(prefix):
        raise DeltaError("the delta's header and index are not complete")
    body_end = len(prefix) - CHECK_BYTES
    prefix = memoryview(prefix)
    if check_of(prefix[:body_end]) != prefix[body_end:]:
        raise DeltaError("the delta's header or index is damaged: its check differs")
    index_at = PREAMBLE_BYTES + int.from_bytes(prefix[10:14], "little")
    cursor = Cursor(prefix[PREAMBLE_BYTES:index_at], "the header")
    header = _parse_header(cursor, Index(prefix[index_at:body_end]), len(prefix))
    # First, since it bounds how many tables there can be.
    if header.index.records_bytes > records_bytes_max(header.target_bytes, len(header.targets)):
        raise DeltaError("the delta's records are longer than those of its target can be")
    header.index.check(header.chunk_count)
    return header


def records_bytes_max(target_bytes: int, target_files: int) -> int:
    """What the records of a target may take; they never need as much."""
    return _RECORDS_BYTES_FREE + _RECORDS_BYTES_PER_FILE * target_files + 2 * target_bytes


def _parse_header(cursor: Cursor, index: Index, prefix_bytes: int) -> Header:
    flags = cursor.varint()
    if flags & ~(_FLAG_TARGET_FOLDER | _FLAG_MAPPED | _FLAG_REPEATS):
        raise DeltaError(f"the delta has flags {flags:#x}, which this release does not know")
    memory_bytes = cursor.varint()
    methods = _ascending(cursor)
    artifact_count = cursor.varint()
    if artifact_count > 1:
        raise DeltaError("the delta has several source artifacts: not supported by this release")
    artifacts = tuple(_parse_files(cursor, "source") for _ in range(artifact_count))
    targets = _parse_files(cursor, "target")
    cursor.end()
    folder = bool(flags & _FLAG_TARGET_FOLDER)
    if not folder and len(targets) != 1:
        raise cursor.error("names several target files but no folder")
    return Header(
        folder=folder,
        mapped=bool(flags & _FLAG_MAPPED),
        repeats=bool(flags & _FLAG_REPEATS),
        memory_bytes=memory_bytes,
        methods=methods,
        artifacts=artifacts,
        targets=targets,
        index=index,
        prefix_bytes=prefix_bytes,
    )


def _ascending(cursor: Cursor) -> tuple[int, ...]:
    count = cursor.varint()
    if count > METHODS_MAX:
        raise cursor.error(f"names {count} methods: too many")
    numbers = tuple(cursor.varint() for _ in range(count))
    if any(later <= number for number, later in pairwise(numbers)):
        raise cursor.error("does not name its methods in ascending order")
    return numbers


def _parse_files(cursor: Cursor, what: str) -> tuple[FileRef, ...]:
    count = cursor.varint()
    if not 1 <= count <= FILES_MAX:
        raise cursor.error(f"names {count} {what} files: 1 to {FILES_MAX} are possible")
    files = tuple(_parse_file(cursor) for _ in range(count))
    paths = [file.path for file in files]
    try:
        check_paths(paths)
    except FormatError as error:
        raise DeltaError(f"the delta names an impossible {what}: {error.message}") from None
    if paths != sorted(paths):
        raise cursor.error(f"does not name its {what} files in the order of their paths")
    if sum(file.size_bytes for file in files) > VALUE_MAX:
        raise cursor.error(f"has {what} files of impossible size")
    return files


def _parse_file(cursor: Cursor) -> FileRef:
    path = bytes(cursor.take(cursor.varint()))
    size_bytes = cursor.varint()
    digest = Digest(bytes(cursor.take(32)))
    try:
        return FileRef(path=path.decode("utf-8"), size_bytes=size_bytes, digest=digest)
    except UnicodeDecodeError:
        raise cursor.error("holds a path that is not UTF-8") from None
