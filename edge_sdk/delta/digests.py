"""Digests of whole chunks: two at once where the kernel and the processor can, since a hash
waits for itself most of the time."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.base import CHUNK_BYTES, Digest, file_digest
from edge_sdk.base.digest import DIGEST_BYTES
from edge_sdk.delta.coder import KERNEL

if KERNEL == "c":
    from edge_sdk.delta import _kernel

CHUNKS_AT_ONCE = 2 if KERNEL == "c" and _kernel.sha256_can_pair() else 1
_BLOCK_BYTES = 64


def digests_of(chunks: Sequence[memoryview]) -> list[Digest]:
    """Of each chunk; two of one length that is a multiple of 64 take the time of one."""
    if CHUNKS_AT_ONCE == 2 and len(chunks) == 2:
        first, second = chunks
        if len(first) == len(second) and len(first) % _BLOCK_BYTES == 0:
            both = bytearray(2 * DIGEST_BYTES)
            if _kernel.sha256_pair(first, second, both) == 0:
                return [Digest(bytes(both[:DIGEST_BYTES])), Digest(bytes(both[DIGEST_BYTES:]))]
    return [Digest.of(chunk) for chunk in chunks]


class FileHasher:
    """The digest of a file from its bytes in order. They are kept until there are as many chunks
    as are hashed at once: a copy takes less time than hashing saves."""

    def __init__(self) -> None:
        self._memory = bytearray()
        self._filled = 0
        self._chunks: list[Digest] = []

    def update(self, data: memoryview) -> None:
        self._memory = self._memory or bytearray(CHUNKS_AT_ONCE * CHUNK_BYTES)
        while len(data):
            taken = min(len(data), len(self._memory) - self._filled)
            self._memory[self._filled : self._filled + taken] = data[:taken]
            self._filled += taken
            data = data[taken:]
            if self._filled == len(self._memory):
                self._hash_kept()

    def finish(self) -> Digest:
        """The digest; what comes then is of another file."""
        self._hash_kept()
        chunks, self._chunks = self._chunks, []
        return file_digest(chunks)

    def _hash_kept(self) -> None:
        kept = memoryview(self._memory)[: self._filled]
        starts = range(0, self._filled, CHUNK_BYTES)
        self._chunks += digests_of([kept[at : at + CHUNK_BYTES] for at in starts])
        self._filled = 0
