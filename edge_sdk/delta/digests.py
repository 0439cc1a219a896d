"""Digests of whole chunks: two at once where the kernel and the processor can, since a hash
waits for itself most of the time."""

from __future__ import annotations

from collections.abc import Sequence

from edge_sdk.base import Digest
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
