"""The largest values of an output, as the protocol writes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from device_agent.serving.doors.classification import classify
from edge_sdk.base import UsageError

LABELS = ("cat", "dog")


@given(
    array=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.int8]),
        hnp.array_shapes(max_dims=3, max_side=5),
    ),
    count=st.integers(1, 12),
)
def test_the_largest_come_first(array: np.ndarray, count: int) -> None:
    """As many as asked for, each index once, values never rising, of equal ones the first
    first; what is no number comes after the numbers."""
    texts = classify(array, str(array.dtype), count, labels=LABELS, batched=False)
    flat = array.reshape(-1)
    assert len(texts) == min(count, flat.size)
    indexes = [int(text.split(":")[1]) for text in texts]
    assert len(set(indexes)) == len(indexes)
    rank = sorted(
        range(flat.size),
        key=lambda at: (
            bool(flat[at] != flat[at]),
            -flat[at].item() if flat[at] == flat[at] else 0,
        ),
    )
    assert indexes == rank[: len(indexes)]
    for text, index in zip(texts, indexes, strict=True):
        assert text.split(":")[2:] == ([LABELS[index]] if index < len(LABELS) else [])


def test_rows_of_a_batch_have_their_own() -> None:
    """A batch of two gives two rows; without batching it is one list of six."""
    array = np.array([[1, 3, 2], [6, 5, 4]], np.float32)
    rows = classify(array, "float32", 2, labels=LABELS, batched=True)
    assert rows.tolist() == [["3.000000:1:dog", "2.000000:2"], ["6.000000:0:cat", "5.000000:1:dog"]]
    assert classify(array, "float32", 1, labels=(), batched=False).tolist() == ["6.000000:3"]


@pytest.mark.parametrize(("shape", "expected"), [((0, 3), (0, 0)), ((2, 0), (2, 0))])
def test_nothing_has_no_classes(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    """No rows, or rows of nothing."""
    empty = np.zeros(shape, np.float32)
    assert classify(empty, "float32", 2, labels=(), batched=True).shape == expected
    assert classify(empty, "float32", 2, labels=(), batched=False).shape == (0,)


def test_what_cannot_be_ordered_is_refused() -> None:
    """Texts and truth values have no largest; bfloat16 lies here as bit patterns."""
    for dtype in ("string", "bool", "bfloat16", "float16"):
        with pytest.raises(UsageError, match="unsupported type"):
            classify(np.zeros(2, np.uint16), dtype, 1, labels=(), batched=False)
