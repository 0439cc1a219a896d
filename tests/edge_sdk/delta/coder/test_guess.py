"""The first guess: it tells the kind of numbers, and that there are none."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.delta.coder.guess import guessed_bits
from edge_sdk.delta.numeric import KINDS
from tests.support.deltas import bits_dtype, tuned, weights

KIND = {kind.name: kind for kind in KINDS}
NAMES = ("float32", "float16", "bfloat16", "int8")


@pytest.mark.parametrize("name", NAMES)
def test_the_right_kind_is_among_the_two_cheapest(name: str) -> None:
    """Weights that were trained on, looked at as numbers of each kind not wider than they are."""
    before = weights(name, 16_000, 1)
    after = tuned(before, 2)
    found = {
        other: guessed_bits(
            KIND[other], before.view(bits_dtype(other)), after.view(bits_dtype(other))
        )
        for other in NAMES
        if bits_dtype(other).itemsize <= bits_dtype(name).itemsize
    }
    assert name in sorted(found, key=lambda one: found[one])[:2]
    assert found[name] < 0.9 * 8 * after.nbytes


@pytest.mark.parametrize("name", NAMES)
def test_noise_costs_no_less_than_its_bytes(name: str) -> None:
    """Nothing is promised where there is nothing to gain."""
    chance = np.random.default_rng(1)
    before, after = (np.frombuffer(chance.bytes(1 << 15), bits_dtype(name)) for _ in range(2))
    assert guessed_bits(KIND[name], before, after) > 8 * (1 << 15)
