"""Two small networks with gradients by hand, and AdamW: NumPy only, the same bits everywhere.

Both learn to predict the next token of a made-up language. Weights are float32 masters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.delta.exact import Array, grid, product, softmax, weighted_sum

Weights = dict[str, npt.NDArray[np.float32]]
Gradients = dict[str, Array]
Tokens = npt.NDArray[np.int64]
# (weights, tokens of shape (sequences, length)) to (mean loss in nats, gradients)
Loss = Callable[[Weights, Tokens], tuple[float, Gradients]]

VOCABULARY = 512
CONTEXT = 48
SEQUENCES = 4

_WIDTH, _LAYERS, _HEADS = 160, 4, 4
_DEVIATION = 0.02  # of a fresh transformer's weights, as in GPT-2
_MLP_TOKENS, _MLP_EMBEDDING, _MLP_WIDTHS = 4, 64, (1024, 768)
_BETAS, _EPSILON, _DECAY = (0.9, 0.999), 1e-8, 0.01


def language(seed: int, *, like: Tokens | None = None) -> Tokens:
    """Eight successors of each token in each of four states; with ``like``, half are its."""
    random = np.random.default_rng(seed)
    drawn = random.integers(0, VOCABULARY, size=(VOCABULARY, 4, 8))
    successors = drawn * drawn // VOCABULARY  # some tokens are far more frequent than others
    if like is not None:
        kept = random.integers(0, 2, size=(VOCABULARY, 1, 1)) == 0
        successors = np.where(kept, like, successors)
    return successors


def text(successors: Tokens, seed: int, length: int) -> Tokens:
    choices = np.random.default_rng(seed).integers(0, 8, size=length)
    tokens = [0, 1]
    for choice in np.minimum(choices, np.roll(choices, 1)).tolist():
        tokens.append(int(successors[tokens[-1], tokens[-2] % 4, choice]))
    return np.array(tokens, np.int64)


def _drawn(random: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Any:
    """About normal: sums of four integers, which every machine draws alike."""
    total = random.integers(-(1 << 20), 1 << 20, size=(4, *shape)).sum(axis=0)
    return (total * (deviation * 3**0.5 / 2 / (1 << 20))).astype(np.float32)


def fresh_transformer(seed: int) -> Weights:
    """1.4 million weights."""
    random = np.random.default_rng(seed)
    width, onto = _WIDTH, _DEVIATION * (2 * _LAYERS) ** -0.5
    weights: Weights = {
        "embedding.weight": _drawn(random, (VOCABULARY, width), _DEVIATION),
        "position.weight": _drawn(random, (CONTEXT, width), _DEVIATION),
    }
    for layer in range(_LAYERS):
        name = f"layers.{layer}"
        weights[f"{name}.attention_norm.weight"] = np.ones(width, np.float32)
        weights[f"{name}.attention.qkv.weight"] = _drawn(random, (width, 3 * width), _DEVIATION)
        weights[f"{name}.attention.out.weight"] = _drawn(random, (width, width), onto)
        weights[f"{name}.mlp_norm.weight"] = np.ones(width, np.float32)
        weights[f"{name}.mlp.up.weight"] = _drawn(random, (width, 4 * width), _DEVIATION)
        weights[f"{name}.mlp.down.weight"] = _drawn(random, (4 * width, width), onto)
    weights["norm.weight"] = np.ones(width, np.float32)
    weights["head.weight"] = _drawn(random, (width, VOCABULARY), _DEVIATION)
    return weights


def transformer_loss(weights: Weights, tokens: Tokens) -> tuple[float, Gradients]:
    inputs, wanted = tokens[:, :-1], tokens[:, 1:]
    value = weights["embedding.weight"][inputs].astype(np.float64)
    value = value + weights["position.weight"].astype(np.float64)
    backward: list[Callable[[Array, Gradients], Array]] = []
    for layer in range(_LAYERS):
        for part in (_attention, _feed_forward):
            added, back = part(weights, f"layers.{layer}", value)
            value = value + added
            backward.append(back)
    normal, norm_back = _norm(weights, "norm.weight", value)
    logits = product(normal, weights["head.weight"])
    loss, upstream = _cross_entropy(logits, wanted)
    gradients: Gradients = {"head.weight": _weight_gradient(normal, upstream)}
    flow = norm_back(product(upstream, weights["head.weight"].T), gradients)
    for back in reversed(backward):
        flow = flow + back(flow, gradients)
    gradients["embedding.weight"] = _gathered(inputs, flow)
    gradients["position.weight"] = grid(flow).sum(axis=0)
    return loss, gradients


def _norm(weights: Weights, name: str, value: Array) -> Any:
    """Root-mean-square norm with a gain; its backward maps an upstream gradient down."""
    gain, width = weights[name].astype(np.float64), value.shape[-1]
    inverse = 1.0 / np.sqrt(weighted_sum(value, value, -1) / width + 1e-5)
    unit = value * inverse

    def back(upstream: Array, gradients: Gradients) -> Array:
        flat = (-1, width)
        gradients[name] = weighted_sum(upstream.reshape(flat), unit.reshape(flat), 0)[0]
        scaled = upstream * gain
        return (scaled - unit * weighted_sum(scaled, unit, -1) / width) * inverse

    return unit * gain, back


def _attention(weights: Weights, name: str, value: Array) -> Any:
    normal, norm_back = _norm(weights, f"{name}.attention_norm.weight", value)
    into, out = weights[f"{name}.attention.qkv.weight"], weights[f"{name}.attention.out.weight"]
    batch, length, width = value.shape
    depth = width // _HEADS

    def split(joined: Array) -> Array:
        return joined.reshape(batch, length, -1, _HEADS, depth).transpose(2, 0, 3, 1, 4)

    def join(parts: Array) -> Array:
        return parts.transpose(1, 3, 0, 2, 4).reshape(batch, length, -1)

    query, key, content = split(product(normal, into))
    scores = product(query, key.swapaxes(-1, -2)) * 0.15625  # about 1 / sqrt(depth), exact
    share = softmax(np.where(np.tri(length, dtype=bool), scores, -1e9))
    mixed = join(product(share, content)[None])

    def back(upstream: Array, gradients: Gradients) -> Array:
        gradients[f"{name}.attention.out.weight"] = _weight_gradient(mixed, upstream)
        (flow,) = split(product(upstream, out.T))
        into_share = product(flow, content.swapaxes(-1, -2))
        into_scores = share * (into_share - weighted_sum(into_share, share, -1)) * 0.15625
        parts = (
            product(into_scores, key),
            product(into_scores.swapaxes(-1, -2), query),
            product(share.swapaxes(-1, -2), flow),
        )
        joined = join(np.stack(parts))
        gradients[f"{name}.attention.qkv.weight"] = _weight_gradient(normal, joined)
        result: Array = norm_back(product(joined, into.T), gradients)
        return result

    return product(mixed, out), back


def _feed_forward(weights: Weights, name: str, value: Array) -> Any:
    normal, norm_back = _norm(weights, f"{name}.mlp_norm.weight", value)
    up, down = weights[f"{name}.mlp.up.weight"], weights[f"{name}.mlp.down.weight"]
    hidden = np.maximum(product(normal, up), 0.0)

    def back(upstream: Array, gradients: Gradients) -> Array:
        gradients[f"{name}.mlp.down.weight"] = _weight_gradient(hidden, upstream)
        flow = product(upstream, down.T) * (hidden > 0)
        gradients[f"{name}.mlp.up.weight"] = _weight_gradient(normal, flow)
        result: Array = norm_back(product(flow, up.T), gradients)
        return result

    return product(hidden, down), back


def fresh_mlp(seed: int) -> Weights:
    """1.5 million weights."""
    random = np.random.default_rng(seed)
    widths = (_MLP_TOKENS * _MLP_EMBEDDING, *_MLP_WIDTHS, VOCABULARY)
    weights: Weights = {"embedding.weight": _drawn(random, (VOCABULARY, _MLP_EMBEDDING), 0.5)}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        deviation = (3 * inputs) ** -0.5  # that of PyTorch's default
        weights[f"dense{number}.weight"] = _drawn(random, (inputs, outputs), deviation)
        weights[f"dense{number}.bias"] = np.zeros(outputs, np.float32)
    return weights


def mlp_loss(weights: Weights, tokens: Tokens) -> tuple[float, Gradients]:
    """Predicts each token from the four before it."""
    windows = np.lib.stride_tricks.sliding_window_view(tokens, _MLP_TOKENS + 1, axis=1)
    windows = windows.reshape(-1, _MLP_TOKENS + 1)
    inputs, wanted = windows[:, :-1], windows[:, -1]
    value = weights["embedding.weight"][inputs].reshape(len(inputs), -1).astype(np.float64)
    values, last = [value], len(_MLP_WIDTHS)
    for number in range(last + 1):
        value = product(value, weights[f"dense{number}.weight"]) + weights[f"dense{number}.bias"]
        value = value if number == last else np.maximum(value, 0.0)
        values.append(value)
    loss, flow = _cross_entropy(values.pop(), wanted)
    gradients: Gradients = {}
    for number in reversed(range(last + 1)):
        gradients[f"dense{number}.weight"] = _weight_gradient(values[number], flow)
        gradients[f"dense{number}.bias"] = grid(flow).sum(axis=0)
        flow = product(flow, weights[f"dense{number}.weight"].T)
        flow = flow * (values[number] > 0) if number else flow
    spread = flow.reshape(*inputs.shape, _MLP_EMBEDDING)
    gradients["embedding.weight"] = _gathered(inputs, spread)
    return loss, gradients


def _cross_entropy(logits: Array, wanted: Tokens) -> tuple[float, Array]:
    share = softmax(logits)
    places = np.expand_dims(wanted, -1)
    chosen = np.take_along_axis(share, places, -1)
    loss = float(-np.log(np.maximum(chosen, 1e-12)).mean())
    np.put_along_axis(share, places, chosen - 1.0, -1)
    return loss, share / wanted.size


def _weight_gradient(inputs: Array, upstream: Array) -> Array:
    flat = inputs.reshape(-1, inputs.shape[-1])
    return product(flat.T, upstream.reshape(-1, upstream.shape[-1]))


def _gathered(rows: Tokens, flow: Array) -> Array:
    """The gradient of a table whose ``rows`` were looked up."""
    table = np.zeros((VOCABULARY, flow.shape[-1]))
    np.add.at(table, rows.reshape(-1), grid(flow).reshape(-1, flow.shape[-1]))
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    name: str
    fresh: Callable[[int], Weights]
    loss: Loss


TRANSFORMER = Network(name="lm", fresh=fresh_transformer, loss=transformer_loss)
MLP = Network(name="mlp", fresh=fresh_mlp, loss=mlp_loss)


def train(
    network: Network, weights: Weights, tokens: Tokens, *, steps: int, rate: float, seed: int
) -> tuple[Weights, float]:
    """New weights after ``steps`` of AdamW at a constant rate, and the last steps' mean loss."""
    weights = {name: value.copy() for name, value in weights.items()}
    first = {name: np.zeros(value.shape) for name, value in weights.items()}
    second = {name: np.zeros(value.shape) for name, value in weights.items()}
    random = np.random.default_rng(seed)
    correction, losses = [1.0, 1.0], []
    for _ in range(steps):
        starts = random.integers(0, len(tokens) - CONTEXT - 1, size=SEQUENCES)
        batch = np.stack([tokens[start : start + CONTEXT + 1] for start in starts])
        loss, gradients = network.loss(weights, batch)
        losses.append(loss)
        correction = [one * beta for one, beta in zip(correction, _BETAS, strict=True)]
        for name, gradient in gradients.items():
            first[name] += (1 - _BETAS[0]) * (gradient - first[name])
            second[name] += (1 - _BETAS[1]) * (gradient * gradient - second[name])
            step = first[name] / (1 - correction[0])
            step /= np.sqrt(second[name] / (1 - correction[1])) + _EPSILON
            decayed = weights[name] * (1 - rate * _DECAY)
            weights[name] = (decayed - rate * step).astype(np.float32)
    return weights, float(np.mean(losses[-10:]))
