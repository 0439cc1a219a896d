"""The protocol's classification extension: the k largest values as texts, not a whole tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_sdk.base import UsageError
from edge_sdk.engines.contract import Array

# Of the others the standard's servers give no classes either.
_TYPES = frozenset(
    {"float32", "float64", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
)


def classify(
    array: Array, dtype: str, count: int, *, labels: Sequence[str], batched: bool
) -> Array:
    """Texts "value:index" or "value:index:label", the largest value first.

    Shape (classes,), or (rows, classes) where the first dimension is a batch's; ``labels``
    are by index. Raises: UsageError.
    """
    if count < 1:
        raise UsageError("invalid value for 'classification' parameter, expected > 0")
    if dtype not in _TYPES:
        raise UsageError(f"class result not available for output due to unsupported type {dtype!r}")
    rows = array.reshape(array.shape[0] if batched else 1, -1) if array.size else array
    classes = min(count, rows.shape[-1]) if array.size else 0
    texts = np.empty((array.shape[0] if batched else 1, classes), object)
    for row, values in enumerate(rows if classes else ()):
        for place, index in enumerate(_largest(values, classes)):
            texts[row, place] = _text(values[index], index, labels)
    return texts if batched else texts[0]


def _largest(values: Array, count: int) -> list[int]:
    """Indexes of the largest values, of equal ones the first first; not-a-number comes last."""
    wide = values.astype(np.float64) if values.dtype.kind == "f" else values
    if wide.dtype.kind == "f":
        order = np.argsort(np.where(np.isnan(wide), np.inf, -wide), kind="stable")
    else:
        # Reversed twice, since the least integer has no negative.
        order = len(wide) - 1 - np.argsort(wide[::-1], kind="stable")[::-1]
    chosen: list[int] = order[:count].tolist()
    return chosen


def _text(value: Any, index: int, labels: Sequence[str]) -> str:
    number = f"{value:f}" if isinstance(value, np.floating) else str(value)
    if index < len(labels):
        return f"{number}:{index}:{labels[index]}"
    return f"{number}:{index}"
