"""Where numbers begin in bytes of which nobody says that they are numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.numeric import ElementKind


def likely_phase(data: bytes, kind: ElementKind) -> int:
    """Bytes before the first whole element, if there are elements of this kind.

    The highest byte of a float, with sign and exponent, takes the fewest values; the lowest of
    an integer takes the most.
    """
    width = kind.width_bytes
    values = np.frombuffer(data, np.uint8)
    costs = [_information(values[residue::width]) for residue in range(width)]
    return (int(np.argmin(costs)) + 1) % width if kind.is_float else int(np.argmax(costs))


def _information(values: NDArray[np.uint8]) -> float:
    """Bits that bytes take, each by itself."""
    counts = np.bincount(values, minlength=256).astype(np.float64)
    present = counts[counts > 0]
    return float(len(values) * np.log2(max(1, len(values))) - present @ np.log2(present))
