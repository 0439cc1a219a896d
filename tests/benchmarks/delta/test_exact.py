"""Sums that come out the same in any order."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.delta.exact import TERMS_MAX, grid, product, softmax, weighted_sum


def test_products_do_not_depend_on_the_order_of_their_sums() -> None:
    """The terms shuffled, or added one by one with Python's integers, give the same bits."""
    random = np.random.default_rng(1)
    left = random.standard_normal((5, 3000)) * 1e3
    right = random.standard_normal((3000, 4)) * 1e-3
    order = random.permutation(3000)
    made = product(left, right)
    assert np.array_equal(made, product(left[:, order], right[order]))
    assert np.array_equal(made, product(left[:, ::-1], right[::-1]))
    exact = sum(
        int(x * 2.0**40) * int(y * 2.0**60)
        for x, y in zip(grid(left)[2], grid(right)[:, 1], strict=True)
    )
    assert made[2, 1] == exact / 2.0**100
    np.testing.assert_allclose(made, left @ right, rtol=1e-3, atol=1e-3)


def test_grid_keeps_twenty_bits() -> None:
    """Nothing moves by more than half of a millionth of the largest; zeros stay."""
    values = np.random.default_rng(2).standard_normal(1000)
    assert np.abs(grid(values) - values).max() <= np.abs(values).max() * 2.0**-20
    assert np.array_equal(grid(np.zeros(3)), np.zeros(3))
    assert grid(np.zeros(0)).size == 0


def test_shares_add_up_and_sums_keep_their_axis() -> None:
    """A softmax sums to one within the grid; a weighted sum is that of its products."""
    values = np.random.default_rng(3).standard_normal((4, 7))
    assert np.abs(softmax(values).sum(axis=-1) - 1).max() < 1e-5
    np.testing.assert_allclose(
        weighted_sum(values, values, 1)[:, 0], (values**2).sum(axis=1), rtol=1e-4
    )


def test_too_long_a_sum_is_refused() -> None:
    """More terms than float64 adds without rounding are an error, not a wrong bit."""
    with pytest.raises(ValueError, match="rounded"):
        product(np.ones((1, TERMS_MAX + 1)), np.ones((TERMS_MAX + 1, 1)))
