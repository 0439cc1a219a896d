"""A multi-layer perceptron and Adam in NumPy: enough to really train what the demo delivers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from demo.digits import Images, Labels

Array = npt.NDArray[np.float32]

_BETA_MEAN = 0.9
_BETA_SQUARE = 0.999
_EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class Layer:
    """``weight`` of shape (inputs, outputs), ``bias`` of shape (outputs,)."""

    weight: Array
    bias: Array


Layers = tuple[Layer, ...]


def fresh(sizes: Sequence[int], *, seed: int) -> Layers:
    """He initialisation for the widths ``sizes``, from the input to the classes."""
    random = np.random.default_rng(seed)
    return tuple(
        Layer(
            random.standard_normal((inputs, outputs), dtype=np.float32)
            * np.float32(np.sqrt(2 / inputs)),
            np.zeros(outputs, np.float32),
        )
        for inputs, outputs in pairwise(sizes)
    )


def weight_count(layers: Layers) -> int:
    return sum(layer.weight.size + layer.bias.size for layer in layers)


def forward(layers: Layers, images: Images) -> list[Array]:
    """The input of each layer, then the scores of shape (n, classes)."""
    values: list[Array] = [images]
    for number, layer in enumerate(layers, start=1):
        value = values[-1] @ layer.weight + layer.bias
        values.append(np.maximum(value, 0) if number < len(layers) else value)
    return values


def fine_tune(
    layers: Layers,
    images: Images,
    labels: Labels,
    *,
    steps: int,
    rate: float,
    seed: int,
    batch: int = 64,
) -> Layers:
    """``steps`` of Adam on softmax cross-entropy; the given layers stay as they are."""
    random = np.random.default_rng(seed)
    weights = [part.copy() for layer in layers for part in (layer.weight, layer.bias)]
    mean = [np.zeros_like(part) for part in weights]
    square = [np.zeros_like(part) for part in weights]
    for step in range(1, steps + 1):
        chosen = random.integers(0, len(images), batch)
        slopes = _slopes(_layers(weights), images[chosen], labels[chosen])
        scale = rate * np.sqrt(1 - _BETA_SQUARE**step) / (1 - _BETA_MEAN**step)
        for part, slope, m, s in zip(weights, slopes, mean, square, strict=True):
            _adam(part, slope, m, s, scale)
    return _layers(weights)


def _layers(weights: list[Array]) -> Layers:
    return tuple(Layer(w, b) for w, b in zip(weights[::2], weights[1::2], strict=True))


def _slopes(layers: Layers, images: Images, labels: Labels) -> list[Array]:
    """The gradient of the mean loss, in the order of the flat weights."""
    values = forward(layers, images)
    scores = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    scores[np.arange(len(labels)), labels] -= 1
    slope = scores / np.float32(len(labels))
    slopes: list[Array] = []
    for number in reversed(range(len(layers))):
        slopes += [slope.sum(axis=0), values[number].T @ slope]
        if number:
            slope = (slope @ layers[number].weight.T) * (values[number] > 0)
    return slopes[::-1]


def _adam(part: Array, slope: Array, mean: Array, square: Array, scale: float) -> None:
    """One step in place: temporary arrays cost more than the arithmetic on large layers."""
    mean *= np.float32(_BETA_MEAN)
    mean += np.float32(1 - _BETA_MEAN) * slope
    np.multiply(slope, slope, out=slope)
    slope *= np.float32(1 - _BETA_SQUARE)
    square *= np.float32(_BETA_SQUARE)
    square += slope
    np.sqrt(square, out=slope)
    slope += np.float32(_EPSILON)
    np.divide(mean, slope, out=slope)
    slope *= np.float32(scale)
    part -= slope
