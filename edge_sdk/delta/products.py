"""Products of matrices on one core.

OpenBLAS gives larger products to threads, which wait by spinning: on a device they would take
cores from what it serves, and how they share a product would decide its last bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

# OpenBLAS starts no threads for so many multiplications.
_PART_MAX = 1 << 18
_INNER_MAX, _HEIGHT = 128, 64


def product(left: Matrix, right: Matrix) -> Matrix:
    """``left @ right``, of float32, made in parts."""
    (rows, inner), columns = left.shape, right.shape[1]
    depth = max(1, min(inner, _INNER_MAX))
    width = max(1, min(columns, _PART_MAX // (_HEIGHT * depth)))
    height = max(1, _PART_MAX // (depth * width))
    made = np.zeros((rows, columns), np.float32)
    for row in range(0, rows, height):
        for column in range(0, columns, width):
            part = made[row : row + height, column : column + width]
            for at in range(0, inner, depth):
                tile = left[row : row + height, at : at + depth]
                part += tile @ right[at : at + depth, column : column + width]
    return made
