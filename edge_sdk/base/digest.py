"""Digests: how files, chunks and documents are named and proved.

A file is cut into chunks of 1 MiB. Its *digest* is the SHA-256 of its concatenated chunk
digests, so every byte is hashed once and a proved file names its blob. An empty file has
no chunk. A document (manifest, assignment) is named by the SHA-256 of exactly its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import total_ordering
from typing import BinaryIO, NoReturn

from edge_sdk.base.errors import FormatError

CHUNK_BYTES = 1 << 20
DIGEST_BYTES = 32


@total_ordering
class Digest:
    """A SHA-256 value, immutable. ``str()`` gives 64 lower-case hexadecimal digits.

    Not a dataclass: msgspec would take one apart where a digest is one string in JSON.
    """

    __slots__ = ("raw",)
    raw: bytes

    def __init__(self, raw: bytes) -> None:
        if len(raw) != DIGEST_BYTES:
            raise FormatError(f"a digest has 32 bytes, not {len(raw)}")
        object.__setattr__(self, "raw", bytes(raw))

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Reads 64 lower-case hexadecimal digits. Raises: FormatError."""
        if len(text) != 2 * DIGEST_BYTES or not set(text) <= set("0123456789abcdef"):
            raise FormatError(f"not a digest (64 lower-case hexadecimal digits): {text[:80]!r}")
        return cls(bytes.fromhex(text))

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview) -> Digest:
        """The digest of a document or of one chunk: the SHA-256 of its bytes."""
        return cls(hashlib.sha256(data).digest())

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a digest does not change")

    def __reduce__(self) -> tuple[type[Digest], tuple[bytes]]:
        return Digest, (self.raw,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.raw == other.raw

    def __lt__(self, other: Digest) -> bool:
        return self.raw < other.raw

    def __hash__(self) -> int:
        return hash(self.raw)

    def __str__(self) -> str:
        return self.raw.hex()

    def __repr__(self) -> str:
        return f"Digest({self.short})"

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self.raw.hex()[:12]


def file_digest(chunks: Iterable[Digest]) -> Digest:
    """The digest of a file from the digests of its chunks, in order."""
    whole = hashlib.sha256()
    for chunk in chunks:
        whole.update(chunk.raw)
    return Digest(whole.digest())


def chunk_count(size_bytes: int) -> int:
    return -(-size_bytes // CHUNK_BYTES)


def chunk_length(size_bytes: int, chunk: int) -> int:
    """Bytes of chunk number ``chunk`` (from 0) of a file of ``size_bytes``."""
    return min(CHUNK_BYTES, size_bytes - chunk * CHUNK_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileProof:
    """What was found out about a file by reading it once."""

    size_bytes: int
    chunks: tuple[Digest, ...]
    sha256: Digest

    @property
    def digest(self) -> Digest:
        return file_digest(self.chunks)


def read_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """The chunks of a stream, each of 1 MiB but the last. A short read is not an end."""
    while True:
        parts = []
        missing = CHUNK_BYTES
        while missing:
            part = stream.read(missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        if parts:
            yield b"".join(parts)
        if missing:
            return


def prove_stream(stream: BinaryIO) -> FileProof:
    """Reads a stream to its end and states its digests; memory is one chunk."""
    chunks = []
    plain = hashlib.sha256()
    size = 0
    for chunk in read_chunks(stream):
        chunks.append(Digest.of(chunk))
        plain.update(chunk)
        size += len(chunk)
    return FileProof(size_bytes=size, chunks=tuple(chunks), sha256=Digest(plain.digest()))
