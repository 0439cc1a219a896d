"""Where tensors lie in a slot. Pure."""

from __future__ import annotations

ALIGNMENT_BYTES = 64  # a cache line, as in the tensor pool


def aligned(size_bytes: int) -> int:
    """The next multiple of 64 that is not below ``size_bytes``."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
