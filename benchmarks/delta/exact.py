"""Arithmetic whose result is the same on every machine, however a BLAS orders its sums.

Values are rounded to a grid of a power of two so coarse that float64 holds each sum of
products without rounding. So a network that is trained with it has the same weights, bit
for bit, wherever it is trained, and sizes measured on it can be kept by the files' hash.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# 2 x 20 bits for a product and 13 for the sum of 8192 of them.
_GRID_BITS = 20
TERMS_MAX = 1 << 13


def grid(values: npt.NDArray[Any]) -> Array:
    """``values`` rounded to 20 bits under the largest magnitude."""
    values = np.asarray(values, np.float64)
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return values
    step = float(np.ldexp(1.0, int(np.frexp(largest)[1]) - _GRID_BITS))
    rounded: Array = np.rint(values / step) * step
    return rounded


def product(left: npt.NDArray[Any], right: npt.NDArray[Any]) -> Array:
    """Matrix product (batched like ``@``) of the rounded operands, itself exact."""
    if left.shape[-1] > TERMS_MAX:
        raise ValueError(f"a sum of {left.shape[-1]} products would be rounded")
    result: Array = grid(left) @ grid(right)
    return result


def weighted_sum(left: npt.NDArray[Any], right: npt.NDArray[Any], axis: int) -> Array:
    """Sum of ``left * right`` along ``axis``, which is kept with length 1."""
    result: Array = (grid(left) * grid(right)).sum(axis=axis, keepdims=True)
    return result


def softmax(values: Array) -> Array:
    """Over the last axis. ``exp`` may differ in its last bit; the grid is far coarser."""
    powers = grid(np.exp(values - values.max(axis=-1, keepdims=True)))
    return grid(powers / powers.sum(axis=-1, keepdims=True))
