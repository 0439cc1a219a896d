"""The two networks learn, and their gradients are right."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.delta import exact, network
from benchmarks.delta.network import MLP, TRANSFORMER, Network

_TRIED = ("embedding.weight", "head.weight", "dense0.weight", "dense2.bias")


@pytest.fixture(scope="module")
def tokens() -> network.Tokens:
    return network.text(network.language(1), 2, 4000)


@pytest.mark.parametrize("net", [TRANSFORMER, MLP], ids=lambda net: net.name)
def test_gradients_are_those_of_the_loss(
    net: Network, tokens: network.Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tensor's largest gradient agrees with the loss's difference quotient."""
    monkeypatch.setattr(exact, "_GRID_BITS", 44)  # a quotient of differences needs them
    batch = tokens[: network.CONTEXT + 1][None]
    weights = net.fresh(3)
    _, gradients = net.loss(weights, batch)
    assert set(gradients) == set(weights)
    for name in [name for name in weights if "layers.1" in name or name in _TRIED]:
        place = np.unravel_index(np.abs(gradients[name]).argmax(), gradients[name].shape)
        moved = {key: value.astype(np.float64) for key, value in weights.items()}
        losses = []
        for step in (1e-3, -2e-3):
            moved[name][place] += step
            losses.append(net.loss(moved, batch)[0])  # type: ignore[arg-type]
        quotient = (losses[0] - losses[1]) / 2e-3
        assert gradients[name][place] == pytest.approx(quotient, rel=0.02, abs=1e-5), name


@pytest.mark.parametrize("net", [TRANSFORMER, MLP], ids=lambda net: net.name)
def test_training_lowers_the_loss_and_repeats_itself(
    net: Network, tokens: network.Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a million weights, fewer nats after some steps, and the same bits again."""
    monkeypatch.setattr(network, "SEQUENCES", 1)
    fresh = net.fresh(5)
    assert sum(value.size for value in fresh.values()) > 1_000_000
    before = net.loss(fresh, tokens[: network.CONTEXT + 1][None])[0]
    first, loss = network.train(net, fresh, tokens, steps=4, rate=2e-3, seed=6)
    second, _ = network.train(net, fresh, tokens, steps=4, rate=2e-3, seed=6)
    assert loss < before
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert all(not np.array_equal(first[name], fresh[name]) for name in first)


def test_second_language_keeps_half_of_the_first() -> None:
    """What a fine-tune sees is partly known."""
    first = network.language(1)
    second = network.language(3, like=first)
    same = (first == second).all(axis=(1, 2)).mean()
    assert 0.4 < same < 0.6
