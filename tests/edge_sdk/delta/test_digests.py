"""Digests of two chunks at once are those of each alone."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import CHUNK_BYTES
from edge_sdk.delta.coder import KERNEL
from edge_sdk.delta.digests import digests_of


@given(
    st.sampled_from([0, 1, 63, 64, 65, 128, 1024, 4096]),
    st.sampled_from([0, 64, 65, 1024, 4096]),
    st.randoms(use_true_random=False),
)
def test_they_are_those_of_hashlib(first: int, second: int, chance: object) -> None:
    """Of one length or two, of whole blocks or not, and of any number of chunks."""
    chunks = [chance.randbytes(size) for size in (first, second, first, first)]  # type: ignore[attr-defined]
    wanted = [hashlib.sha256(chunk).digest() for chunk in chunks]
    for some in (slice(0, 0), slice(0, 1), slice(0, 2), slice(2, 4), slice(0, 4)):
        found = digests_of([memoryview(chunk) for chunk in chunks[some]])
        assert [one.raw for one in found] == wanted[some]


def test_whole_chunks_are_hashed_right() -> None:
    """A mebibyte each, beginning at any address."""
    data = bytes(range(251)) * (2 * CHUNK_BYTES // 251 + 2)
    for at in (0, 1, 33):
        chunks = [data[at : at + CHUNK_BYTES], data[at + CHUNK_BYTES : at + 2 * CHUNK_BYTES]]
        found = digests_of([memoryview(chunk) for chunk in chunks])
        assert [one.raw for one in found] == [hashlib.sha256(one).digest() for one in chunks]


@pytest.mark.skipif(KERNEL != "c", reason="there is no kernel")
def test_the_kernel_refuses_what_it_cannot_hash() -> None:
    """Lengths that differ, parts of blocks, too little room: an error, and nothing is written."""
    from edge_sdk.delta import _kernel

    for first, second, room in ((64, 128, 64), (65, 65, 64), (64, 64, 63)):
        out = bytearray(room)
        assert _kernel.sha256_pair(bytes(first), bytes(second), out) < 0
        assert not any(out)
