"""Floats as bit patterns, and their cast, after "Value maps" of FORMAT.md."""

from __future__ import annotations

import numpy as np

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = 4, 5, 6, 7
FLOATS = {FLOAT16: (16, 10), BFLOAT16: (16, 7), FLOAT32: (32, 23), FLOAT64: (64, 52)}  # w, m
PATTERNS = {16: np.uint16, 32: np.uint32, 64: np.uint64}
NUMPY_FLOATS = {16: np.float16, 32: np.float32, 64: np.float64}


def infinity(kind: int) -> int:
    width, mantissa = FLOATS[kind]
    return ((1 << (width - 1 - mantissa)) - 1) << mantissa


def cast(bits: np.ndarray, source: int, target: int) -> np.ndarray:
    """Bit patterns of one kind of float as those of another."""
    if source == target:
        return bits
    if FLOAT32 not in (source, target):
        return cast(cast(bits, source, FLOAT32), FLOAT32, target)
    width = FLOATS[source][0]
    if source == BFLOAT16:
        made = bits.astype(np.uint32) << np.uint32(16)
    elif target == BFLOAT16:
        wide = bits.astype(np.uint64)
        odd = (wide >> np.uint64(16)) & np.uint64(1)
        made = ((wide + np.uint64(0x7FFF) + odd) >> np.uint64(16)).astype(np.uint16)
    else:
        with np.errstate(all="ignore"):
            floats = bits.view(NUMPY_FLOATS[width]).astype(NUMPY_FLOATS[FLOATS[target][0]])
        made = floats.view(PATTERNS[FLOATS[target][0]])
    nan = (bits & bits.dtype.type((1 << (width - 1)) - 1)) > infinity(source)
    return np.where(nan, quiet(bits, source, target), made).astype(made.dtype)


def quiet(bits: np.ndarray, source: int, target: int) -> np.ndarray:
    """The NaN of another kind: sign kept, mantissa cut or filled, its highest bit set."""
    (width, mantissa), (width_to, mantissa_to) = FLOATS[source], FLOATS[target]
    old = bits.astype(np.uint64)
    sign = old >> np.uint64(width - 1) << np.uint64(width_to - 1)
    low = old & np.uint64((1 << mantissa) - 1)
    if mantissa > mantissa_to:
        low = low >> np.uint64(mantissa - mantissa_to)
    else:
        low = low << np.uint64(mantissa_to - mantissa)
    return sign | low | np.uint64(infinity(target) | 1 << (mantissa_to - 1))
