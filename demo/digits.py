"""scikit-learn's bundled digits: 1,797 handwritten digits of 8 x 8 pixels, no download."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

PIXELS = 64
CLASSES = 10
_HELD_OUT = 500
_PIXEL_MAX = 16.0

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Digits:
    """Images of shape (n, 64) in [0, 1], labels of shape (n,); never trained on the held-out."""

    train_images: Images
    train_labels: Labels
    held_out_images: Images
    held_out_labels: Labels


def load(*, seed: int = 0) -> Digits:
    """The same split for the same seed."""
    from sklearn.datasets import load_digits  # half a second of imports, only where it is used

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(images))
    images = (images[order] / _PIXEL_MAX).astype(np.float32)
    labels = labels[order].astype(np.int64)
    return Digits(
        train_images=images[_HELD_OUT:],
        train_labels=labels[_HELD_OUT:],
        held_out_images=images[:_HELD_OUT],
        held_out_labels=labels[:_HELD_OUT],
    )


def accuracy(scores: npt.NDArray[np.floating], labels: Labels) -> float:
    """Share of rows of ``scores`` (n, classes) whose largest entry is the label."""
    return float((scores.argmax(axis=1) == labels).mean())
