"""What is fed with hostile bytes of a delta: prefix, whole deltas, records, tables, codes.

Each target takes any bytes, and returns or raises an EdgeError; whatever else it raises is a
finding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from itertools import islice
from types import ModuleType

import numpy as np

from edge_sdk.base import DeltaError, Digest, EdgeError, ResourceError, WrongSourceError
from edge_sdk.delta import Decoder, ExpectedFile, FileRef, Header, Prover
from edge_sdk.delta.coder import KERNEL, tables, twin
from edge_sdk.delta.coder.leaning import standing_in
from edge_sdk.delta.coder.rans import LANES
from edge_sdk.delta.container import parse_prefix, put_prefix
from edge_sdk.delta.prediction import parse_prediction, put_prediction
from edge_sdk.delta.records import KIND_END, KIND_TABLE, parse_place
from edge_sdk.delta.varint import Cursor
from tests.fuzz.examples import FuzzExample, examples
from tests.support.deltas import MEMORY_LIMIT_BYTES, Crafted, file_ref, prefix_of, resealed

# More is not kept: a disk is full at some time.
_KEPT_BYTES_MAX = 1 << 20
_READ_BYTES_MAX = 1 << 13
_LISTED_MAX = 1000
_ELEMENTS_MAX = 3000
PREDICTED = bytes(range(256)) * 8 + np.linspace(-2, 2, 512, dtype="<f4").tobytes()
PREDICTED_REFS = tuple(
    FileRef(path=path, size_bytes=len(PREDICTED), digest=Digest(bytes(32))) for path in "ab"
)


class Sink:
    """Source and target of a decoder, in memory. ``before``: what the target's files hold where
    it is not the first decoder that writes them."""

    def __init__(self, example: FuzzExample, *, before: Sequence[bytes] = ()) -> None:
        self._before = before
        self._held: list[bytearray] = []
        self._sources = list(example.sources.values())
        self._left = _KEPT_BYTES_MAX
        self.header: Header | None = None
        self.files: list[bytearray] = []
        self.written: list[tuple[int, int, bytes]] = []
        self._prover: Prover | None = None

    def on_header(self, header: Header) -> None:
        stated = [file.size_bytes for file in header.sources]
        if stated != [len(data) for data in self._sources[: len(stated)]]:
            raise WrongSourceError("the sources have other sizes")
        expected = [
            ExpectedFile(size_bytes=one.size_bytes, digest=one.digest) for one in header.targets
        ]
        self.header = header
        self._prover = Prover(expected)
        self.files = [bytearray() for _ in expected]
        self._held = [bytearray(data) for data in self._before or self.files]

    def read_source(self, file: int, offset: int, length: int) -> bytes:
        data = self._sources[file]
        assert 0 <= offset <= offset + length <= len(data), "a read outside of the source"
        return data[offset : offset + length]

    def read_target(self, file: int, offset: int, length: int) -> bytes:
        data = self._held[file]
        assert 0 <= offset <= offset + length <= len(data), "a read of what is not made yet"
        return bytes(data[offset : offset + length])

    def write(self, file: int, offset: int, data: memoryview) -> None:
        assert self.header is not None, "nothing is written before the header"
        end = offset + len(data)
        assert end <= self.header.targets[file].size_bytes, "a write outside of the target"
        self._left -= len(data)
        if self._left < 0:
            raise ResourceError("the target is larger than what is kept here")
        self.written.append((file, offset, bytes(data)))
        self._held[file][offset:] = data
        for later in self._held[file + 1 :]:
            later.clear()

    @property
    def stated(self) -> tuple[FileRef, ...]:
        """The files that the header names."""
        assert self.header is not None
        return self.header.targets

    def prove(self) -> list[bytes]:
        """The files. Raises: ProofError."""
        assert self._prover is not None
        for file, offset, data in self.written:
            assert offset == len(self.files[file]), "writes come in order"
            self.files[file] += data
            self._prover.update(file, offset, memoryview(data))
        self._prover.finish()
        return [bytes(data) for data in self.files]

    def decoder(self) -> Decoder:
        return Decoder(
            read_source=self.read_source,
            write=self.write,
            read_target=self.read_target,
            memory_limit_bytes=MEMORY_LIMIT_BYTES,
            on_header=self.on_header,
        )

    def resume(self, delta: bytes, chunk: int) -> Decoder:
        """A decoder that has taken all that it asked for."""
        decoder, spans = Decoder.resume(
            prefix_of(delta),
            chunk,
            read_source=self.read_source,
            write=self.write,
            read_target=self.read_target,
            memory_limit_bytes=MEMORY_LIMIT_BYTES,
            on_header=self.on_header,
        )
        for span in spans:
            decoder.feed(delta[span.offset : span.offset + span.length])
        return decoder


def container(data: bytes) -> None:
    """A prefix as it is, and one whose lengths and check are right: two bytes say where the
    index begins."""
    with suppress(DeltaError):
        parse_prefix(data)
    at = int.from_bytes(data[:2], "little")
    body = data[2:]
    header = parse_prefix(put_prefix(body[:at], body[at:]))
    index = header.index
    for run in islice(index.runs(), _LISTED_MAX):
        assert 0 <= run.offset < index.end_offset
        assert index.run_of(run.first_chunk) == run
        list(islice(index.tables_in_force(run.offset), _LISTED_MAX))
    list(islice(index.tables(), _LISTED_MAX))
    for chunk in (0, header.chunk_count - 1):
        if 0 <= chunk < header.chunk_count:
            file, _offset = header.chunk_start(chunk)
            assert file < len(header.targets)


def decoder(data: bytes) -> None:
    """A whole delta behind three bytes: its example, what is done with it, and the chunk where a
    second decoder begins. Checks are made anew where that is asked for and possible."""
    example, (way, chunk), delta = example_of(data), data[1:3].ljust(2, b"\0"), data[3:]
    if way & 1:
        with suppress(EdgeError, IndexError):
            delta = resealed(delta)
    sink = Sink(example)
    _decode(sink, delta, piece_bytes=1 + (way >> 2) if way & 2 else len(delta) or 1)
    check_files(sink.stated, sink.prove(), example)
    again = Sink(example, before=sink.files)
    assert sink.header is not None
    again.resume(delta, chunk % (sink.header.chunk_count + 1)).finish()
    before = {(file, offset): piece for file, offset, piece in sink.written}
    for file, offset, piece in again.written:
        whole = bytes(sink.files[file][offset : offset + len(piece)])
        assert whole == piece == before.get((file, offset), piece), "resumed, it makes others"


def records(data: bytes) -> None:
    """Bodies of records in a container that is right: behind the example's number, records of a
    kind, two bytes of length and a body."""
    example = example_of(data)
    crafted = Crafted(
        targets=example.target_refs,
        sources=example.source_refs,
        folder=True,
        mapped=True,
        repeats=True,
    )
    for kind, body in _records(data[1:]):
        crafted.records.append((kind, body))
        crafted.places.append(None if kind == KIND_TABLE else parse_place(Cursor(body, "a body")))
    sink = Sink(example)
    delta = crafted.build()
    _decode(sink, delta, piece_bytes=len(delta))
    check_files(sink.stated, sink.prove(), example)


def code_table(data: bytes) -> None:
    """A code table; one that is taken has this one spelling, and kernel and twin take the same."""
    kernel = _kernel()
    by_kernel = kernel.parse(data) if kernel is not None else None
    try:
        table = tables.parse(Cursor(data, "a code table"))
    except DeltaError:
        assert by_kernel is None, "the kernel takes what the twin refuses"
        raise
    assert kernel is None or by_kernel == table, "kernel and twin differ"
    assert tables.pack(table) == data, "a second spelling of a code table"
    for one in (*table.tables, *table.level_tables):
        assert sum(one.frequencies) == tables.SCALE
        assert min(one.frequencies) > 0


def codes(data: bytes) -> None:
    """A code table and a stream: kernel and twin make the same, or both refuse. Before them: the
    table's length, the count (two bytes each), the lanes and the source's seed."""
    fields = data[:6].ljust(6, b"\0")
    at = int.from_bytes(fields[:2], "little")
    count = int.from_bytes(fields[2:4], "little") % _ELEMENTS_MAX
    lanes = tuple(LANES.values())[fields[4] % len(LANES)]
    table = tables.parse(Cursor(data[6 : 6 + at], "a code table"))
    if table.model == tables.UNREFLECTED:
        table = replace(table, model=tables.DIFFERENCE)
    elif table.model == tables.LEANING:
        table = standing_in(table)
    source = None
    if table.model != tables.ALONE:
        source = source_elements(table.kind.bits, count, fields[5])
    stream = data[6 + at :]
    found = [_decoded(one, table, source, count, lanes, stream) for one in _backends()]
    assert all(one == found[0] for one in found), "kernel and twin differ"


def source_elements(bits: np.dtype, count: int, seed: int) -> np.ndarray:
    """Numbers near each other, and any."""
    step = np.arange(count, dtype=np.uint64) * np.uint64(2 * seed + 1)
    return (step * np.uint64(0x9E3779B97F4A7C15 if seed % 2 else 1)).astype(bits)


def prediction(data: bytes) -> None:
    """A prediction with its maps: one spelling, and every part of it as in the whole."""
    found = parse_prediction(Cursor(data, "a table"), PREDICTED_REFS)
    assert put_prediction(found) == data, "a second spelling of a prediction"
    end = min(found.length, _READ_BYTES_MAX)
    whole = found.read(0, end, _read_predicted)
    assert len(whole) == end
    for start, stop in ((0, end // 3), (end // 3, end), (end // 2, end // 2 + 1), (end - 1, end)):
        if 0 <= start < stop <= end:
            assert found.read(start, stop - start, _read_predicted) == whole[start:stop]
    if found.length > end:
        found.read(found.length - 1, 1, _read_predicted)
    with suppress(DeltaError):
        found.read(found.length, 1, _read_predicted)
        raise AssertionError("more of a prediction than there is")


# --- parts ------------------------------------------------------------------------------


def example_of(data: bytes) -> FuzzExample:
    """The one that the first byte names."""
    every = examples()
    return every[(data[0] if data else 0) % len(every)]


def _records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 3 <= len(data):
        end = at + 3 + int.from_bytes(data[at + 1 : at + 3], "little")
        kind = data[at]
        # The end's body is in the container's frame, which is right here.
        yield (kind if kind != KIND_END else KIND_TABLE), data[at + 3 : end]
        at = end


def _decode(sink: Sink, delta: bytes, *, piece_bytes: int) -> None:
    taking = sink.decoder()
    for at in range(0, len(delta), piece_bytes):
        taking.feed(delta[at : at + piece_bytes])
    taking.finish()


def check_files(targets: Sequence[FileRef], files: Sequence[bytes], example: FuzzExample) -> None:
    """What was proved is what the header names, and if it names an original, that."""
    originals = {file_ref("", data).digest: data for data in example.targets.values()}
    for stated, data in zip(targets, files, strict=True):
        assert file_ref(stated.path, data) == stated, "proved, but another file"
        assert originals.get(stated.digest, data) == data, "proved, but not the original"


def _kernel() -> ModuleType | None:
    return None if KERNEL == "numpy" else import_module("edge_sdk.delta.coder.kernel")


def _backends() -> list[ModuleType]:
    kernel = _kernel()
    return [twin] if kernel is None else [kernel, twin]


def _decoded(
    backend: ModuleType,
    table: tables.CodeTable,
    source: np.ndarray | None,
    count: int,
    lanes: int,
    stream: bytes,
) -> bytes | None:
    """None where it is refused."""
    try:
        made: bytes = backend.decode(table, source, count, lanes, stream).tobytes()
    except DeltaError:
        return None
    return made


def _read_predicted(file: int, offset: int, length: int) -> bytes:
    assert 0 <= file < len(PREDICTED_REFS)
    assert 0 <= offset <= offset + length <= len(PREDICTED), "a read outside of the source"
    return PREDICTED[offset : offset + length]
