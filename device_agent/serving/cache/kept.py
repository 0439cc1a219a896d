"""Outputs of a run, copied into memory that nobody can change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_sdk.engines.contract import Array

_TEXT_BYTES = 64  # what a str costs beside its characters, rounded up


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Read-only arrays by name of the output; ``size_bytes`` is what they take."""

    outputs: Mapping[str, Array]
    size_bytes: int


def keep(outputs: Mapping[str, Array]) -> Kept:
    """A copy: the arrays given lie in buffers that the next request overwrites."""
    copies = {name: _copy(array) for name, array in outputs.items()}
    return Kept(outputs=copies, size_bytes=sum(size_bytes(one) for one in copies.values()))


def _copy(array: Array) -> Array:
    if array.dtype == object:
        copied = np.array(array)
        copied.setflags(write=False)
        return copied
    return np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)  # bytes stay as are


def size_bytes(array: Array) -> int:
    """What an array takes, its texts included."""
    if array.dtype == object:
        return array.nbytes + sum(_TEXT_BYTES + 4 * len(text) for text in array.flat)
    return array.nbytes
