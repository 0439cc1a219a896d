"""How far what was rounded lies from what became of it, after "Leans" of FORMAT.md."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.independent_decoder.floats import FLOATS, cast

ROUNDED_BELOW = 131072
SIZES = [part * 2.0**-power for power in range(8, 1, -1) for part in (1, 1.5)] + [0.5]


class Made(NamedTuple):
    """Numbers of a kind, and what they were rounded from: floats of a kind as bit patterns."""

    numbers: np.ndarray
    kind: int
    exact: np.ndarray
    exact_kind: int


def lean(made: Made) -> np.ndarray:
    """How far each number's origin lies above it, in steps of its kind (float64)."""
    return float_lean(made) if made.kind in FLOATS else whole_lean(made.exact.view(np.float32))


def float_lean(made: Made) -> np.ndarray:
    (width, mantissa), (width_to, mantissa_to) = FLOATS[made.exact_kind], FLOATS[made.kind]
    more = mantissa - mantissa_to
    if more <= 0:
        return np.zeros(len(made.numbers))
    unsigned = np.uint64((1 << (width - 1)) - 1)
    y = made.exact.astype(np.uint64)
    back = cast(made.numbers, made.kind, made.exact_kind).astype(np.uint64)
    above = (y & unsigned).astype(np.int64) - (back & unsigned).astype(np.int64)
    steps = np.where(y > unsigned, -above, above) / 2.0**more
    fields = (1 << (width_to - 1 - mantissa_to)) - 1
    exponents = (made.numbers >> made.numbers.dtype.type(mantissa_to)) & fields
    return np.where(exponents == fields, 0.0, steps)


def whole_lean(q: np.ndarray) -> np.ndarray:
    rounded = np.abs(q) < ROUNDED_BELOW  # never where it is NaN
    near = np.where(rounded, q, np.float32(0)).astype(np.float64)
    return near - np.rint(near)


def size(leans: np.ndarray) -> np.ndarray:
    """The size of each, 0 to 15."""
    return np.searchsorted(SIZES, np.abs(leans), side="right").astype(np.int64)
