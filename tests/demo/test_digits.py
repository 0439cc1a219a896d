"""The data is split honestly."""

from __future__ import annotations

import numpy as np
import pytest

from demo import digits


def test_no_held_out_image_is_trained_on() -> None:
    """Every digit is on one side of the split, and the split is the same each time."""
    data = digits.load()
    assert len(data.train_images) + len(data.held_out_images) == 1797
    again = digits.load()
    np.testing.assert_array_equal(data.held_out_labels, again.held_out_labels)
    np.testing.assert_array_equal(data.train_images, again.train_images)
    assert data.train_images.dtype == np.float32
    assert data.train_images.max() == 1.0


def test_accuracy_counts_largest_scores() -> None:
    """Accuracy is the share of rows whose largest score stands at the label."""
    scores = np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0], [1.0, 0.0]])
    assert digits.accuracy(scores, np.array([1, 0, 0, 0])) == pytest.approx(0.75)
