"""The entropy bound against cases that can be worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import entropy
from demo import graph, mlp


def _bound(source: np.ndarray, target: np.ndarray, dtype: str) -> float:
    return entropy.bound_bits(source.view(np.uint8), target.view(np.uint8), dtype)


def test_nothing_changed_needs_nothing() -> None:
    """Equal weights have an entropy of 0 bits."""
    weights = np.linspace(-1, 1, 1000, dtype=np.float32)
    assert _bound(weights, weights, "float32") == 0


def test_a_coin_for_each_weight_is_one_bit() -> None:
    """Half of the weights one step up, half unchanged, one exponent: a bit each."""
    source = np.full(64, 1.5, np.float32)
    target = source.copy()
    target[::2] = np.nextafter(target[::2], np.float32(2))
    assert _bound(source, target, "float32") == pytest.approx(64)


def test_the_exponent_tells_which() -> None:
    """Where the source's exponent decides what happens, nothing is left to say."""
    source = np.where(np.arange(64) % 2 == 0, 1.5, 6.0).astype(np.float32)
    target = np.where(source == 1.5, np.nextafter(source, np.float32(2)), source)
    assert _bound(source, target.astype(np.float32), "float32") == 0


def test_bits_under_the_token_count_as_they_are() -> None:
    """A difference of 100 keeps two bits under its top bit: four of its seven bits are raw."""
    source = np.zeros(8, np.int8)
    target = np.full(8, 100, np.int8)
    assert _bound(source, target, "int8") == pytest.approx(8 * 4)


def test_integers_wrap() -> None:
    """127 to -128 is one step, as it is modulo the width."""
    source = np.array([127] * 4 + [0] * 4, np.int8)
    target = np.array([-128] * 4 + [1] * 4, np.int8)
    assert _bound(source, target, "int8") == 0


def test_floats_cross_zero_in_small_steps() -> None:
    """The smallest numbers on both sides of zero are near each other, -0.0 included."""
    tokens, raw = entropy.tokenise(
        entropy._difference(
            np.array([1, 0x80000000], np.uint32),  # smallest positive, -0.0
            np.array([0x80000001, 0], np.uint32),  # smallest negative, 0.0
            is_float=True,
        )
    )
    assert (tokens.tolist(), raw) == ([2 * 3 + 1, 2 * 1], 0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float16", "bfloat16", "float32"])
def test_tokens_with_their_raw_bits_name_every_difference(dtype: str) -> None:
    """The count of differences that share a token is what its raw bits can tell apart."""
    random = np.random.default_rng(5)
    width_bytes = entropy._DTYPES[dtype][0]
    source, target = (random.integers(0, 256, 512 * width_bytes, np.uint8) for _ in range(2))
    bits = entropy.bound_bits(source, target, dtype)
    assert 0 < bits <= 8 * len(source) + 512


def test_a_model_is_the_sum_of_its_tensors(tmp_path: Path) -> None:
    """Tensors of two files are aligned by name and their bounds added up."""
    layers = mlp.fresh((8, 16, 4), seed=1)
    tuned = tuple(mlp.Layer(one.weight * np.float32(1.001), one.bias) for one in layers)
    graph.write_model(layers, tmp_path / "a.onnx")
    graph.write_model(tuned, tmp_path / "b.onnx")
    bits = sum(
        _bound(old.weight.ravel(), new.weight.ravel(), "float32")
        for old, new in zip(layers, tuned, strict=True)
    )
    got = entropy.model_bound_bytes(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert got == int(np.ceil(bits / 8))
    assert entropy.model_bound_bytes(tmp_path / "a.onnx", tmp_path / "a.onnx") == 0
