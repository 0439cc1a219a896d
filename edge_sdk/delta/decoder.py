"""The push decoder: fed with bytes as they arrive, it writes target bytes in order.

It opens no file and no socket, and proves no digest (that is the prover's); it never
allocates by a number that was not checked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from edge_sdk.base import CHUNK_BYTES, DeltaError, UsageError
from edge_sdk.delta import coder
from edge_sdk.delta.addresses import Addresses
from edge_sdk.delta.container import (
    CODE_TABLE_BYTES,
    END_MARK,
    MAPPED_BYTES,
    MAPPED_TABLE_BODY_BYTES_MAX,
    PREAMBLE_BYTES,
    PREDICTION_SLOTS,
    RECORD_BODY_BYTES_MAX,
    TABLE_BODY_BYTES_MAX,
    TABLE_SLOTS,
    TABLES_BYTES,
    ByteSpan,
    ChunkRun,
    Header,
    TableEntry,
    parse_prefix,
    prefix_length,
)
from edge_sdk.delta.making import Maker, Order
from edge_sdk.delta.methods import REGISTRY, DecodeContext, Method
from edge_sdk.delta.methods.contract import ReadFile
from edge_sdk.delta.prediction import parse_prediction
from edge_sdk.delta.records import (
    KIND_END,
    KIND_TABLE,
    Place,
    head_length,
    open_record,
    parse_place,
)
from edge_sdk.delta.varint import Cursor

Write = Callable[[int, int, memoryview], None]


class Decoder:
    """Decodes one delta.

    ``read_source(source file, offset, length)`` answers with exactly these bytes;
    ``write(target file, offset, bytes)`` takes target bytes in order. A target file without
    bytes is never written: whoever writes makes it from the header. ``read_target(target
    file, offset, length)`` answers with bytes that were written, before a resume too; without
    it a delta that wants that is refused. ``on_header(header)`` is called before the first
    read and the first write. With several ``threads`` records are made at once, as many as
    the memory limit allows; then ``read_source`` is called from any of them, everything else from
    the one that feeds, and what fails may fail some records later.

    After an error the decoder is of no further use.
    """

    def __init__(
        self,
        *,
        read_source: ReadFile,
        write: Write,
        read_target: ReadFile | None = None,
        memory_limit_bytes: int,
        on_header: Callable[[Header], None] | None = None,
        threads: int = 1,
    ) -> None:
        self.header: Header | None = None
        self.prefix_bytes = 0
        self._read_source = read_source
        self._write = write
        self._read_target = read_target
        self._memory_limit_bytes = memory_limit_bytes
        self._on_header = on_header
        self._threads = threads
        self._maker: Maker | None = None
        self._memory = bytearray()
        self._filled = 0
        self._wanted = PREAMBLE_BYTES
        self._step: Callable[[], None] | None = self._take_preamble
        self._failed = False

    # --- bytes in ---------------------------------------------------------------------

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Takes the next bytes of the container, any number of them.

        Raises: DeltaError, WrongSourceError, and what the callbacks raise.
        """
        if self._failed:
            raise DeltaError("the decoder has failed before and takes no more bytes")
        view = memoryview(data).cast("B")
        try:
            while len(view):
                if self._step is None:
                    raise DeltaError(f"{len(view)} bytes follow the end of the delta")
                view = view[self._collect(view) :]
                if self._filled == self._wanted:
                    self._step()
        except BaseException:
            self._failed = True
            self._stop()
            raise

    def finish(self) -> None:
        """Raises: DeltaError when the delta is not complete."""
        if self._failed or self._step is not None:
            self._failed = True
            self._stop()
            raise DeltaError("the delta is truncated")

    def _stop(self) -> None:
        """Writes what comes before the record that failed; an error there is the first one."""
        if self._maker is not None:
            maker, self._maker = self._maker, None
            try:
                maker.finish()
            finally:
                maker.close()

    def _collect(self, view: memoryview) -> int:
        """Keeps what is still wanted; answers how much that was."""
        if len(self._memory) < self._wanted:
            collected, self._memory = self._collected, bytearray(self._wanted)
            self._memory[: self._filled] = collected
        taken = min(self._wanted - self._filled, len(view))
        # Through a view: a bytearray copies once more what is assigned to a part of it.
        memoryview(self._memory)[self._filled : self._filled + taken] = view[:taken]
        self._filled += taken
        return taken

    @property
    def _collected(self) -> memoryview:
        return memoryview(self._memory)[: self._filled]

    def _taken(self) -> memoryview:
        """What was collected, which stands until more comes."""
        data = self._collected
        self._filled = 0
        return data

    # --- prefix -----------------------------------------------------------------------

    def _take_preamble(self) -> None:
        self._wanted = prefix_length(self._collected)
        if self._wanted > self._memory_limit_bytes:
            raise DeltaError(
                f"the delta's header and index need {self._wanted} bytes of memory; the limit "
                f"is {self._memory_limit_bytes}"
            )
        self._step = self._take_prefix

    def _take_prefix(self) -> None:
        prefix, self._memory = self._taken(), bytearray()  # the header keeps the prefix
        header = parse_prefix(prefix)
        self._open(header)
        self._begin(header, header.index.runs(), header.index.tables())

    def _open(self, header: Header) -> None:
        """Takes a header that this decoder can serve. Raises: DeltaError."""
        if header.memory_bytes > self._memory_limit_bytes:
            raise DeltaError(
                f"the delta needs {header.memory_bytes} bytes of memory; the limit is "
                f"{self._memory_limit_bytes}",
                wanted=header.memory_bytes,
                limit=self._memory_limit_bytes,
            )
        unknown = [number for number in header.methods if number not in REGISTRY]
        if unknown:
            raise DeltaError(f"the delta uses method {unknown[0]}, unknown to this release")
        if header.repeats and self._read_target is None:
            raise DeltaError("the delta reads what it has made, and this decoder cannot")
        self.header = header
        self.prefix_bytes = header.prefix_bytes
        if self._on_header is not None:
            self._on_header(header)

    def _begin(
        self, header: Header, runs: Iterator[ChunkRun], tables: Iterator[TableEntry]
    ) -> None:
        self._methods: dict[int, Method] = {number: REGISTRY[number] for number in header.methods}
        self._context = DecodeContext(
            header.sources,
            self._read_source,
            header.targets,
            self._read_target if header.repeats else None,
        )
        self._addresses = Addresses(file.size_bytes for file in header.targets)
        others = self._threads if self._threads > 1 else 0
        self._maker = Maker(
            self._context,
            self._put,
            others=min(others, _spare(header, self._memory_limit_bytes)),
        )
        self._targets = header.targets
        self._runs = runs
        self._tables = tables
        self._codes: set[int] = set()
        self._jumps: deque[int] = deque()
        self._whole = True
        self._resumed = False
        self._records = 0
        self._offset = 0
        self._position = 0
        self._await_record()

    # --- resume -----------------------------------------------------------------------

    @classmethod
    def resume(
        cls,
        prefix: bytes,
        chunk: int,
        *,
        read_source: ReadFile,
        write: Write,
        read_target: ReadFile | None = None,
        memory_limit_bytes: int,
        on_header: Callable[[Header], None] | None = None,
        threads: int = 1,
    ) -> tuple[Decoder, tuple[ByteSpan, ...]]:
        """A decoder that begins at a chunk, and what to feed it with, in order.

        ``prefix`` is the container's beginning (header and index); ``chunk`` counts through
        all target files, and may be their count: then only the end is still wanted. Writes
        begin exactly at the chunk's first byte.

        Raises: DeltaError, UsageError (no such chunk).
        """
        header = parse_prefix(bytes(prefix))
        if not 0 <= chunk <= header.chunk_count:
            raise UsageError(f"the target has {header.chunk_count} chunks; there is no {chunk}")
        decoder = cls(
            read_source=read_source,
            write=write,
            read_target=read_target,
            memory_limit_bytes=memory_limit_bytes,
            on_header=on_header,
            threads=threads,
        )
        decoder._open(header)
        return decoder, decoder._begin_at(header, chunk)

    def _begin_at(self, header: Header, chunk: int) -> tuple[ByteSpan, ...]:
        index = header.index
        if chunk < header.chunk_count:
            start = index.run_of(chunk).offset
            in_force = index.tables_in_force(start)
        else:
            start, in_force = index.end_offset, ()
        self._begin(header, index.runs(chunk), chain(in_force, index.tables(start)))
        self._whole = False
        self._resumed = True
        if chunk < header.chunk_count:
            self._position = self._addresses.of(*header.chunk_start(chunk))
        else:
            self._position = self._addresses.end
        self._jumps = deque((*(one.offset for one in in_force), start))
        self._offset = self._jumps.popleft()
        base = header.prefix_bytes
        tables_wanted = (ByteSpan(offset=base + one.offset, length=one.length) for one in in_force)
        rest = ByteSpan(offset=base + start, length=index.records_bytes - start)
        return (*tables_wanted, rest)

    # --- records ----------------------------------------------------------------------

    def _await_record(self) -> None:
        self._wanted = 2
        self._step = self._take_head

    def _take_head(self) -> None:
        length = head_length(self._collected)
        if length is None:
            self._wanted += 1
        else:
            self._wanted = length
            self._step = self._take_record

    def _take_record(self) -> None:
        record = self._taken()
        kind, body = open_record(record, self._offset)
        if kind == KIND_END:
            self._end(body, len(record))
            return
        if kind == KIND_TABLE:
            self._set_table(body, len(record))
        else:
            self._make(kind, body)
        self._records += 1
        if self._jumps:
            self._offset = self._jumps.popleft()
        else:
            self._offset += len(record)
        self._await_record()

    def _set_table(self, body: Cursor, record_bytes: int) -> None:
        assert self.header is not None
        mapped = self.header.mapped
        slot = body.varint()
        is_code = slot >= PREDICTION_SLOTS
        limit = MAPPED_TABLE_BODY_BYTES_MAX if mapped and not is_code else TABLE_BODY_BYTES_MAX
        if slot >= TABLE_SLOTS or body.position + len(body) > limit:
            raise body.error(f"is a table for slot {slot}, or one too large")
        entry = TableEntry(offset=self._offset, slot=slot, length=record_bytes)
        if next(self._tables, None) != entry:
            raise body.error("is a table that the index does not have there")
        if is_code:
            self._codes.add(slot)
            self._check_memory(0, body)
            self._context.set_code(slot, coder.parse(body))
            return
        prediction = parse_prediction(body, self._context.sources)
        if not (mapped or prediction.is_plain):
            raise body.error("is a prediction that is not plain, which the header does not say")
        self._context.set_table(slot, prediction)

    def _make(self, kind: int, body: Cursor) -> None:
        """Writes what a data record makes."""
        if self._jumps:
            raise body.error("is no table, but one was to be fetched again")
        method = self._methods.get(kind)
        if method is None:
            raise body.error(f"has method {kind}, which the header does not name")
        body_bytes = len(body)
        place = parse_place(body)
        skip = self._check_place(place, method, body)
        self._check_memory(method.memory_bytes(place.length, body_bytes), body)
        start = self._position - skip
        order = Order(method=method, body=body, start=start, length=place.length, skip=skip)
        assert self._maker is not None
        self._memory = self._maker.make(order, self._memory)
        self._position = start + place.length

    def _put(self, address: int, piece: memoryview) -> None:
        """Writes target bytes, to one file or more."""
        data = piece.cast("B")
        for file, offset, length in self._addresses.parts(address, len(data)):
            self._write(file, offset, data[:length])
            data = data[length:]

    def _check_place(self, place: Place, method: Method, body: Cursor) -> int:
        """Bytes of the place that were made before, by a decoder that this one resumes."""
        if place.file >= len(self._targets) or place.offset >= self._targets[place.file].size_bytes:
            raise body.error("does not begin where the one before it ends")
        start = self._addresses.of(place.file, place.offset)
        skip = self._position - start
        if not (skip == 0 or (self._resumed and 0 < skip < place.length)):
            raise body.error("does not begin where the one before it ends")
        if start + place.length > self._addresses.end:
            raise body.error("makes bytes past the end of the target")
        if not method.spans_chunks:
            if place.end > self._targets[place.file].size_bytes:
                raise body.error("makes bytes past the end of its file")
            if place.crosses_chunks:
                raise body.error("crosses a chunk's border")
        self._check_index(start, place.length, body)
        self._resumed = False  # only the first record may have been used before
        return skip

    def _check_index(self, start: int, length: int, body: Cursor) -> None:
        """The index must point here for exactly the chunks whose first byte is made here."""
        begin = self._addresses.chunks_before(start)
        end = self._addresses.chunks_before(start + length)
        if begin == end:
            return
        run = ChunkRun(first_chunk=begin, chunks=end - begin, offset=self._offset)
        if next(self._runs, None) != run:
            raise body.error("is not where the index says")

    def _check_memory(self, record_bytes: int, body: Cursor) -> None:
        assert self.header is not None
        wanted = self.prefix_bytes + TABLES_BYTES + record_bytes
        wanted += len(self._codes) * CODE_TABLE_BYTES
        wanted += MAPPED_BYTES if self.header.mapped else 0
        if wanted > self.header.memory_bytes:
            raise body.error(f"needs {wanted} bytes of memory, more than the header says")

    # --- end --------------------------------------------------------------------------

    def _end(self, body: Cursor, record_bytes: int) -> None:
        assert self.header is not None
        target_bytes, records = body.varint(), body.varint()
        body.end()
        if self._position < self._addresses.end:
            file, _ = self._addresses.place(self._position)
            raise body.error(f"ends the delta, but target file {file} is not complete")
        # A resumed decoder has not seen all records, and cannot count them.
        counted = self._whole and records != self._records
        if target_bytes != self.header.target_bytes or counted:
            raise body.error("ends the delta with other totals")
        index = self.header.index
        if next(self._runs, None) or next(self._tables, None) or self._offset != index.end_offset:
            raise body.error("ends the delta where the index does not")
        if self._offset + record_bytes + len(END_MARK) != index.records_bytes:
            raise body.error("ends the delta at another length than the index says")
        self._stop()
        self._wanted = len(END_MARK)
        self._step = self._take_end_mark

    def _take_end_mark(self) -> None:
        if bytes(self._taken()) != END_MARK:
            raise DeltaError("the delta does not end with its mark")
        self._step = None


def _spare(header: Header, memory_limit_bytes: int) -> int:
    """How many more records of any method the memory limit has room for."""
    needs = (
        REGISTRY[number].memory_bytes(CHUNK_BYTES, RECORD_BODY_BYTES_MAX)
        for number in header.methods
    )
    record_bytes = max(needs, default=RECORD_BODY_BYTES_MAX)
    record_bytes += MAPPED_BYTES if header.mapped else 0
    return (memory_limit_bytes - header.memory_bytes) // record_bytes
