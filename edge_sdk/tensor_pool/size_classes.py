"""Size classes: four to each power of two, so that at most a fifth of a slab is unused. Pure."""

from __future__ import annotations

ALIGNMENT_BYTES = 64  # a cache line, and what the engines give their own tensors
_STEPS = 4


def size_class(size_bytes: int) -> int:
    """The bytes of the slab that holds ``size_bytes`` (at least 0); a multiple of 64."""
    if size_bytes <= _STEPS * ALIGNMENT_BYTES:
        step = ALIGNMENT_BYTES
    else:
        step = max(ALIGNMENT_BYTES, (1 << (size_bytes - 1).bit_length() - 1) // _STEPS)
    return max(step, -(-size_bytes // step) * step)
