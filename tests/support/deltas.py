"""Builders for delta tests: small artifacts, decoding in memory, and hostile containers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_sdk.base import CHUNK_BYTES, Digest, file_digest
from edge_sdk.delta import ByteSpan, Decoder, ExpectedFile, FileRef, Header, Prover, encode
from edge_sdk.delta.addresses import Addresses
from edge_sdk.delta.container import (
    CHECK_BYTES,
    END_MARK,
    PREAMBLE_BYTES,
    TABLES_BYTES,
    ChunkRun,
    TableEntry,
    check_of,
    prefix_length,
    put_header,
    put_index,
    put_prefix,
)
from edge_sdk.delta.records import KIND_END, KIND_TABLE, Place, put_place, seal
from edge_sdk.delta.varint import Cursor, varints

MEMORY_LIMIT_BYTES = 32 << 20

# Bit patterns at which a difference could go wrong: zeros, subnormals, infinities, NaNs.
EDGE_BITS = {
    "int8": [0, 1, 0x7F, 0x80, 0xFF],
    "int16": [0, 1, 0x7FFF, 0x8000, 0xFFFF],
    "int32": [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF],
    "int64": [0, 1, 2**63 - 1, 2**63, 2**64 - 1],
    "float16": [0, 0x8000, 1, 0x8001, 0x3FF, 0x7C00, 0xFC00, 0x7C01, 0x7E01, 0xFE00, 0xFFFF],
    "bfloat16": [0, 0x8000, 1, 0x8001, 0x7F, 0x7F80, 0xFF80, 0x7F81, 0x7FC1, 0xFFC0, 0xFFFF],
    "float32": [0, 1 << 31, 1, (1 << 31) + 1, 0x7F800000, 0xFF800000, 0x7F800001, 0xFFC00001],
    "float64": [0, 1 << 63, 1, (1 << 63) + 1, 0x7FF << 52, 0xFFF << 52, (0x7FF << 52) + 1],
}
SAFETENSORS_NAMES = {
    "int8": "I8",
    "uint8": "U8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


def bits_dtype(name: str) -> np.dtype:
    """Unsigned integers as wide as the named element kind."""
    width = int("".join(filter(str.isdigit, name.replace("bfloat16", "b16")))) // 8
    return np.dtype(f"<u{width}")


def weights(name: str, count: int, seed: int) -> np.ndarray:
    """Plausible weights as bit patterns of an element kind, edge values at the front."""
    generator = np.random.default_rng(seed)
    dtype = bits_dtype(name)
    values = generator.normal(0, 0.05, count)
    if name.startswith("int"):
        bits = (values * 400).astype(f"<i{dtype.itemsize}").view(dtype)
    elif name == "bfloat16":
        bits = (values.astype("<f4").view("<u4") >> 16).astype(dtype)
    else:
        bits = values.astype(f"<f{dtype.itemsize}").view(dtype)
    edges = np.array(EDGE_BITS[name], dtype)[:count]
    bits[: len(edges)] = edges
    return bits


def tuned(bits: np.ndarray, seed: int, step: int = 9) -> np.ndarray:
    """The same weights a little further on: most bit patterns move by less than ``step``."""
    generator = np.random.default_rng(seed)
    moves = generator.integers(-step, step + 1, len(bits)).astype(np.int64).astype(bits.dtype)
    return bits + moves


def safetensors(tensors: Mapping[str, tuple[str, np.ndarray]]) -> bytes:
    """A safetensors file: name to (element kind, bit patterns in the tensor's shape)."""
    header, data = {}, b""
    for name, (kind, bits) in tensors.items():
        header[name] = {
            "dtype": SAFETENSORS_NAMES[kind],
            "shape": list(bits.shape),
            "data_offsets": [len(data), len(data) + bits.nbytes],
        }
        data += bits.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def file_ref(path: str, data: bytes) -> FileRef:
    chunks = [Digest.of(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES)]
    return FileRef(path=path, size_bytes=len(data), digest=file_digest(chunks))


def write_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files."""
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


def encoded(source: Path | None, target: Path, **options: object) -> bytes:
    """The delta as bytes."""
    out = io.BytesIO()
    encode(source, target, out, **options)
    return out.getvalue()


class Target:
    """Takes what a decoder writes, proves it, and keeps it. ``written``: the files as they are
    where a decoder begins within them."""

    def __init__(self, sources: Sequence[bytes], *, written: Sequence[bytes] = ()) -> None:
        self.sources = sources
        self._written = written
        self.header: Header | None = None
        self.files: list[bytearray] = []
        self.first_write: tuple[int, int] | None = None
        self.proved: list[int] = []
        self._prover: Prover | None = None

    def read_source(self, file: int, offset: int, length: int) -> bytes:
        return self.sources[file][offset : offset + length]

    def read_target(self, file: int, offset: int, length: int) -> bytes:
        return bytes(self.files[file][offset : offset + length])

    def on_header(self, header: Header) -> None:
        self.header = header
        self.files = [bytearray(data) for data in self._written]
        self.files = self.files or [bytearray() for _ in header.targets]
        self._prover = Prover(
            [
                ExpectedFile(size_bytes=file.size_bytes, digest=file.digest)
                for file in header.targets
            ]
        )

    def write(self, file: int, offset: int, data: memoryview) -> None:
        if self.first_write is None:
            self.first_write = file, offset
            later = [bytearray() for _ in self.files[file + 1 :]]
            self.files[file:] = [self.files[file][:offset] or bytearray(offset), *later]
        else:
            self._check_order(file, offset)
        self.files[file] += data

    def _check_order(self, file: int, offset: int) -> None:
        assert offset == len(self.files[file]), "writes come in order"

    def prove(self) -> None:
        """What ``apply`` does on the way: every byte through the prover."""
        assert self._prover is not None
        for number, data in enumerate(self.files):
            if data:
                self._prover.update(number, 0, memoryview(data))
        self._prover.finish()

    def decoder(self, memory_limit_bytes: int = MEMORY_LIMIT_BYTES) -> Decoder:
        return Decoder(
            read_source=self.read_source,
            write=self.write,
            read_target=self.read_target,
            memory_limit_bytes=memory_limit_bytes,
            on_header=self.on_header,
        )

    def resume(self, prefix: bytes, chunk: int) -> tuple[Decoder, tuple[ByteSpan, ...]]:
        return Decoder.resume(
            prefix,
            chunk,
            read_source=self.read_source,
            write=self.write,
            read_target=self.read_target,
            memory_limit_bytes=MEMORY_LIMIT_BYTES,
            on_header=self.on_header,
        )


def decoded(
    delta: bytes,
    sources: Sequence[bytes] = (),
    *,
    piece_bytes: int | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> list[bytes]:
    """The target files, proved; fed in pieces of ``piece_bytes`` or all at once."""
    target = Target(sources)
    decoder = target.decoder(memory_limit_bytes)
    step = piece_bytes or max(1, len(delta))
    for at in range(0, len(delta), step):
        decoder.feed(delta[at : at + step])
    decoder.finish()
    target.prove()
    return [bytes(data) for data in target.files]


def prefix_of(delta: bytes) -> bytes:
    return delta[: prefix_length(delta[:PREAMBLE_BYTES])]


def record_spans(delta: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, start and end of each record, the end record included; the prefix is not read."""
    end = len(prefix_of(delta))
    kind = None
    while kind != KIND_END:
        start, kind = end, delta[end]
        cursor = Cursor(delta[start + 1 : start + 5], "a length")
        body_bytes = cursor.varint()
        end = start + 1 + cursor.position + body_bytes + CHECK_BYTES
        yield kind, start, end


def resealed(delta: bytes) -> bytes:
    """The same container with the check of the prefix and of every record made anew."""
    out = bytearray(delta)
    prefix_end = len(prefix_of(delta))
    out[prefix_end - CHECK_BYTES : prefix_end] = check_of(out[: prefix_end - CHECK_BYTES])
    for _, start, end in record_spans(bytes(out)):
        out[end - CHECK_BYTES : end] = check_of(out[start : end - CHECK_BYTES])
    return bytes(out)


@dataclass
class Crafted:
    """A container put together by hand; what is left None is made as it should be.

    ``records`` are (kind, body); data records are numbered into the index by ``places``.
    """

    targets: list[FileRef]
    sources: list[FileRef] = field(default_factory=list)
    records: list[tuple[int, bytes]] = field(default_factory=list)
    places: list[Place | None] = field(default_factory=list)
    folder: bool = False
    mapped: bool = False
    repeats: bool = False
    memory_bytes: int = 24 << 20
    methods: list[int] | None = None
    header: bytes | None = None
    index: bytes | None = None
    end_body: bytes | None = None
    end_mark: bytes = END_MARK

    def data(self, method: int, place: Place, tail: bytes) -> Crafted:
        self.records.append((method, put_place(place) + tail))
        self.places.append(place)
        return self

    def table(self, body: bytes) -> Crafted:
        self.records.append((KIND_TABLE, body))
        self.places.append(None)
        return self

    def build(self) -> bytes:
        sealed = [seal(kind, body) for kind, body in self.records]
        total = sum(file.size_bytes for file in self.targets)
        end = seal(KIND_END, self.end_body or varints(total, len(sealed)))
        methods = self.methods
        if methods is None:
            methods = sorted({kind for kind, _ in self.records if kind < KIND_TABLE})
        header = self.header or put_header(
            folder=self.folder,
            mapped=self.mapped,
            repeats=self.repeats,
            memory_bytes=self.memory_bytes,
            methods=methods,
            sources=self.sources,
            targets=self.targets,
        )
        index = self.index or self._index(sealed, len(end))
        return put_prefix(header, index) + b"".join(sealed) + end + self.end_mark

    def _index(self, sealed: list[bytes], end_bytes: int) -> bytes:
        runs, tables, offset, chunk = [], [], 0, 0
        files = len(self.targets)
        addresses = Addresses(file.size_bytes for file in self.targets)
        for (kind, body), place, record in zip(self.records, self.places, sealed, strict=True):
            if kind == KIND_TABLE:
                entry = TableEntry(
                    offset=offset, slot=Cursor(body, "").varint(), length=len(record)
                )
                tables.append(entry)
            elif place is not None:
                start = addresses.of(place.file, place.offset) if place.file < files else 0
                end = min(start + place.length, addresses.end)
                starts = addresses.chunks_before(end) - addresses.chunks_before(start)
                if starts:
                    runs.append(ChunkRun(first_chunk=chunk, chunks=starts, offset=offset))
                chunk += starts
            offset += len(record)
        return put_index(
            records_bytes=offset + end_bytes + len(self.end_mark),
            end_offset=offset,
            runs=runs,
            tables=tables,
        )


def place(length: int, offset: int = 0, file: int = 0) -> Place:
    return Place(file=file, offset=offset, length=length)


def memory_for(crafted_prefix_bytes: int, record_bytes: int) -> int:
    """What the header must say at least."""
    return crafted_prefix_bytes + TABLES_BYTES + record_bytes
