"""Pairs that the bench makes: conversions, files, rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.delta import generated
from benchmarks.delta.generated import bfloat16_bits, converted, onnx_bytes, safetensors_bytes
from edge_sdk.formats import open_model


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    return {
        "dense.weight": random.standard_normal((20, 30)).astype(np.float32),
        "dense.bias": random.standard_normal(30).astype(np.float32),
    }


def test_bfloat16_rounds_to_nearest_even() -> None:
    """Halves go to the even neighbour, others to the nearest."""
    values = np.array([1.0, 1.00390625, 1.01171875, 1.003, -2.5], np.float32)
    assert [hex(bits) for bits in bfloat16_bits(values)] == [
        "0x3f80", "0x3f80", "0x3f82", "0x3f80", "0xc020"]  # fmt: skip


def test_int8_is_one_symmetric_scale_for_each_matrix(weights: dict[str, np.ndarray]) -> None:
    """Integers times scale are the weights within half a step; biases stay as they are."""
    made = converted(weights, "int8")
    scale = made["dense.weight_scale"]
    back = made["dense.weight_quantized"].astype(np.float32) * scale
    assert np.abs(back - weights["dense.weight"]).max() <= scale * 0.501
    assert made["dense.weight_zero_point"] == 0
    assert made["dense.bias"] is weights["dense.bias"]


@pytest.mark.parametrize("dtype", generated.DTYPES)
def test_files_are_read_by_our_readers(
    weights: dict[str, np.ndarray], dtype: str, tmp_path: Path
) -> None:
    """Every tensor is found in the file with its bytes."""
    tensors = converted(weights, dtype)
    path = tmp_path / "model"
    path.write_bytes(safetensors_bytes(tensors) if dtype == "bf16" else onnx_bytes(tensors))
    data = path.read_bytes()
    found = {
        one.name: data[one.offset : one.offset + one.length] for one in open_model(path).tensors
    }
    assert {name: value.tobytes() for name, value in tensors.items()} == found


@pytest.mark.parametrize(
    ("dtype", "rate", "changed", "row"),
    [
        ("bf16", 1e-3, 0.9, "bf16"),
        ("fp16", 1e-4, 0.9, "fp16"),
        ("fp16", 1e-3, 0.9, ""),
        ("fp32", 1e-6, 0.9, "fp32"),
        ("int8", 1e-4, 0.5, "int8-dense"),
        ("int8", 1e-5, 0.4, ""),
        ("int8", 1e-6, 0.01, "int8-light"),
    ],
)
def test_rows_follow_dtype_rate_and_change(
    dtype: str, rate: float, changed: float, row: str
) -> None:
    """The table's rows are told from what was measured."""
    assert generated.row_of(dtype, rate, changed) == row


def test_pairs_that_are_there_are_not_made_again(tmp_path: Path) -> None:
    """The list of an unchanged generator is taken as it is."""
    one = {"id": "lm-1e-06-bf16", "row": "bf16", "old": "a", "new": "b", "rate": 1e-6}
    document = {"version": generated._version(), "pairs": [one]}
    (tmp_path / "generated.json").write_text(json.dumps(document))
    (pair,) = generated.make(tmp_path)
    assert (pair.id, pair.row, pair.old) == ("lm-1e-06-bf16", "bf16", tmp_path / "a")
    assert pair.generated
    assert pair.facts == {"rate": 1e-6}
