"""Lists of the numbers that are not zero: how far apart, and which. Source: FORMAT.md,
"Sparse form".

Where little changed, nearly all numbers are zero, and zstd spends about a bit on each zero
byte that it does not match. Gaps are bytes that its Huffman coder codes close to their entropy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import DeltaError
from edge_sdk.delta.numeric import Bits

Bytes8 = NDArray[np.uint8]

_MORE = 255  # this many zeros, and the gap goes on


def listed_max(count: int) -> int:
    """How many of ``count`` numbers a list may hold: above half, planes are smaller."""
    return count // 2


def gap_bytes_max(count: int, listed: int) -> int:
    """The longest that the gaps of a list can be."""
    return listed + count // _MORE


def put_gaps(numbers: Bits) -> tuple[Bytes8, Bits]:
    """The gaps before the numbers that are not zero, and these numbers, of shape (listed,)."""
    positions = np.flatnonzero(numbers)
    gaps = np.diff(positions, prepend=-1) - 1
    ends = np.cumsum(gaps // _MORE + 1) - 1
    out = np.full(int(ends[-1]) + 1 if len(ends) else 0, _MORE, np.uint8)
    out[ends] = gaps % _MORE
    return out, numbers[positions]


def spread(gaps: Bytes8, listed: Bits, count: int) -> Bits:
    """All ``count`` numbers again, from ``put_gaps``' two arrays.

    Raises: DeltaError: gaps for more or fewer numbers, or beyond the last.
    """
    ends: NDArray[Any] = np.flatnonzero(gaps != _MORE)
    if len(ends) != len(listed) or (len(gaps) and gaps[-1] == _MORE):
        raise DeltaError(f"a record has gaps for {len(ends)} numbers, and {len(listed)} numbers")
    numbers = np.zeros(count, listed.dtype)
    if len(listed):
        positions = np.cumsum(gaps, dtype=np.int32)[ends]
        positions += np.arange(len(listed), dtype=np.int32)
        if int(positions[-1]) >= count:
            raise DeltaError("a record has a number behind its last element")
        numbers[positions] = listed
    return numbers
