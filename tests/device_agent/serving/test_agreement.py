"""Whether two versions gave the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.serving.agreement import Agreement, agree
from edge_sdk.manifest import TensorSpec, Tolerance

Y = (TensorSpec(name="y", dtype="float32", shape=(-1, 3)),)


def seen(
    before: NDArray[Any], candidate: NDArray[Any], *, dtype: str = "float32", atol: str = "0.1"
) -> Agreement:
    specs = (TensorSpec(name="y", dtype=dtype, shape=(-1,) * before.ndim),)
    return agree(specs, {"y": Tolerance(atol=atol, rtol="0")}, {"y": before}, {"y": candidate})


def test_numbers_agree_within_tolerance() -> None:
    """With the largest difference told; what is no number on both sides agrees."""
    left = np.array([[1, 2, np.nan], [7, 5, 3]], np.float32)
    right = left + np.float32(0.05)
    assert seen(left, right).same
    assert round(seen(left, right).difference, 3) == 0.05
    assert not seen(left, right, atol="0.01").same


def test_first_choices_are_counted_by_row() -> None:
    """Another order of the others does not matter; only floats in rows and columns are a
    choice."""
    left = np.array([[1, 2, 3], [9, 5, 3]], np.float32)
    right = np.array([[2, 1, 3], [5, 9, 3]], np.float32)
    got = seen(left, right)
    assert (got.same, got.rows, got.rows_same, got.difference) == (False, 2, 1, 4.0)
    assert seen(left[0], right[0]).rows == 0
    assert seen(left[:, :1], right[:, :1]).rows == 0
    assert seen(left.astype(np.int64), right.astype(np.int64), dtype="int64").rows == 0


def test_another_shape_or_text_is_no_agreement() -> None:
    """Shapes that differ, and strings that do."""
    assert not seen(np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32)).same
    words = np.array(["a", "b"], object)
    assert seen(words, words.copy(), dtype="string").same
    assert not seen(words, np.array(["a", "c"], object), dtype="string").same


def test_bfloat16_is_compared_as_numbers() -> None:
    """Its bit patterns are not."""
    bits = np.array([0x3F80, 0x4000], np.uint16)  # 1 and 2
    got = seen(bits, np.array([0x3F81, 0x4000], np.uint16), dtype="bfloat16")
    assert got.same
    assert got.difference < 0.01


def test_what_only_one_has_is_no_difference() -> None:
    """A version may have outputs more; nobody asked the other for them."""
    extra = {"y": np.zeros((1, 3), np.float32), "z": np.ones(1)}
    assert agree(Y, {}, {"y": extra["y"]}, extra).same
    assert agree(Y, {}, {"y": extra["y"]}, {}) == Agreement(same=True)
