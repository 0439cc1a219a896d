"""Training in NumPy: the slopes are right and training helps."""

from __future__ import annotations

import numpy as np
import pytest

from demo import mlp
from demo.mlp import Layer


def _loss(layers: mlp.Layers, images: np.ndarray, labels: np.ndarray) -> float:
    scores = mlp.forward(layers, images)[-1].astype(np.float64)
    scores -= scores.max(axis=1, keepdims=True)
    log_shares = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return float(-log_shares[np.arange(len(labels)), labels].mean())


def _problem() -> tuple[mlp.Layers, np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    images = random.standard_normal((12, 5)).astype(np.float32)
    return mlp.fresh((5, 6, 3), seed=7), images, random.integers(0, 3, 12)


@pytest.mark.parametrize("number", [0, 1])
def test_slopes_agree_with_finite_differences(number: int) -> None:
    """Each slope is what a small step of its weight does to the loss."""
    layers, images, labels = _problem()
    slopes = mlp._slopes(layers, images, labels)
    step = 1e-2
    for row, column in ((0, 0), (3, 2), (4, 1)):
        losses = []
        for sign in (1, -1):
            weight = layers[number].weight.copy()
            weight[row, column] += np.float32(sign * step)
            moved = list(layers)
            moved[number] = Layer(weight, layers[number].bias)
            losses.append(_loss(tuple(moved), images, labels))
        expected = (losses[0] - losses[1]) / (2 * step)
        assert slopes[2 * number][row, column] == pytest.approx(expected, abs=2e-3)


def test_training_lowers_the_loss_and_leaves_the_source_alone() -> None:
    """Fine-tuning answers with new layers; those it started from are untouched."""
    layers, images, labels = _problem()
    before = [layer.weight.copy() for layer in layers]
    tuned = mlp.fine_tune(layers, images, labels, steps=60, rate=1e-2, seed=1, batch=12)
    assert _loss(tuned, images, labels) < 0.5 * _loss(layers, images, labels)
    for layer, weight in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer.weight, weight)


def test_training_is_seeded() -> None:
    """The same seed gives the same weights, another seed others."""
    layers, images, labels = _problem()

    def tuned(seed: int) -> np.ndarray:
        return mlp.fine_tune(layers, images, labels, steps=3, rate=1e-3, seed=seed)[0].weight

    np.testing.assert_array_equal(tuned(1), tuned(1))
    assert not np.array_equal(tuned(1), tuned(2))


def test_weight_count_of_the_demo_is_over_a_million() -> None:
    """The classifier that the demo delivers has at least a million weights."""
    from demo.train import WIDTHS

    assert mlp.weight_count(mlp.fresh(WIDTHS, seed=0)) >= 1_000_000
