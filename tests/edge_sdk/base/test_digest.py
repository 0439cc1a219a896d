"""Digests name chunks, files and documents."""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import (
    CHUNK_BYTES,
    Digest,
    FormatError,
    chunk_count,
    chunk_length,
    file_digest,
    prove_stream,
    read_chunks,
)


class Dribble(io.BytesIO):
    """A stream that gives few bytes at a time, as sockets do."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, 300_001))


@given(st.binary(min_size=32, max_size=32))
def test_text_of_a_digest_reads_back(raw: bytes) -> None:
    """``parse`` is the inverse of ``str``, and equal digests hash alike."""
    digest = Digest(raw)
    assert Digest.parse(str(digest)) == digest
    assert hash(Digest.parse(str(digest))) == hash(digest)
    assert digest.short == raw.hex()[:12]
    assert repr(digest) == f"Digest({digest.short})"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_digests_sort_as_their_bytes(one: bytes, two: bytes) -> None:
    """The order of digests is the order of their bytes."""
    assert (Digest(one) < Digest(two)) == (one < two)
    assert (Digest(one) >= Digest(two)) == (one >= two)


@pytest.mark.parametrize(
    "text", ["", "ab", "G" * 64, "A" * 64, "a" * 63, "a" * 65, "é" * 64, "a" * 63 + "\n"]
)
def test_other_spellings_of_a_digest_are_refused(text: str) -> None:
    """Only 64 lower-case hexadecimal digits are a digest."""
    with pytest.raises(FormatError):
        Digest.parse(text)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_digest_of_wrong_length_is_refused(size: int) -> None:
    """A digest has exactly 32 bytes."""
    with pytest.raises(FormatError, match="32 bytes"):
        Digest(b"x" * size)


def test_digest_does_not_change() -> None:
    """A digest cannot be assigned to, and comes back equal from a pickle."""
    digest = Digest.of(b"abc")
    with pytest.raises(AttributeError):
        digest.raw = b"x" * 32
    assert pickle.loads(pickle.dumps(digest)) == digest
    other: Any = digest.raw
    assert digest != other


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_proof_of_a_stream(size: int) -> None:
    """A proof states size, chunk digests, file digest and the plain SHA-256 of the bytes."""
    data = bytes(range(256)) * (size // 256) + b"e" * (size % 256)
    proof = prove_stream(Dribble(data))
    chunks = [data[at : at + CHUNK_BYTES] for at in range(0, size, CHUNK_BYTES)]
    assert proof.size_bytes == size
    assert proof.chunks == tuple(Digest.of(chunk) for chunk in chunks)
    assert len(proof.chunks) == chunk_count(size)
    assert proof.sha256.raw == hashlib.sha256(data).digest()
    joined = b"".join(chunk.raw for chunk in proof.chunks)
    assert proof.digest.raw == hashlib.sha256(joined).digest()
    assert proof.digest == file_digest(proof.chunks)


@pytest.mark.parametrize("size", [0, 5, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
def test_chunk_lengths_add_up(size: int) -> None:
    """Chunks are full but for the last, whatever pieces the stream gives."""
    got = [len(chunk) for chunk in read_chunks(Dribble(b"z" * size))]
    assert got == [chunk_length(size, chunk) for chunk in range(chunk_count(size))]
    assert sum(got) == size
