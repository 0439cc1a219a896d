"""Products of matrices: the same as at once, in parts that one core makes."""

import numpy as np
import pytest

from edge_sdk.delta.products import product


@pytest.mark.parametrize(
    ("rows", "inner", "columns"),
    [
        (1, 1, 1),
        (700, 24, 90),
        (3, 5, 50000),
        (70, 1000, 33),
        (33, 4097, 65),
        (3, 0, 4),
        (3, 4, 0),
        (0, 3, 4),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_parts_are_all_there(rows: int, inner: int, columns: int, turned: bool) -> None:
    """Of whole numbers the sums are exact, in any order; views with other strides are taken."""
    chance = np.random.default_rng(rows)
    left = chance.integers(-9, 10, (inner, rows) if turned else (rows, inner)).astype(np.float32)
    right = chance.integers(-9, 10, (columns, inner) if turned else (inner, columns))
    right = right.astype(np.float32)
    if turned:
        left, right = left.T, right.T
    made = product(left, right)
    assert made.dtype == np.float32
    assert (made == left.astype(np.int64) @ right.astype(np.int64)).all()
