"""The exported files answer as the layers do, and are spoilt only in the way that is said."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime
import pytest

from demo import graph, mlp

IMAGES = np.random.default_rng(3).random((4, 6), dtype=np.float32)
LAYERS = mlp.fresh((6, 16, 12, 3), seed=3)


def _answers(model: Path) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model))
    return session.run([graph.OUTPUT], {graph.INPUT: IMAGES})[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float16, 2e-2)])
def test_the_file_answers_as_the_layers_do(tmp_path: Path, dtype: type, tolerance: float) -> None:
    """An exported model computes what the layers compute, within its precision."""
    graph.write_model(LAYERS, tmp_path / "m.onnx", dtype=dtype)
    expected = mlp.forward(LAYERS, IMAGES)[-1]
    np.testing.assert_allclose(_answers(tmp_path / "m.onnx"), expected, atol=tolerance)


def test_every_device_can_load_the_file(tmp_path: Path) -> None:
    """IR version and operator set are those of the oldest engine that is supported."""
    graph.write_model(LAYERS, tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)


def test_idle_layers_change_no_answer(tmp_path: Path) -> None:
    """Multiplying by the identity gives bit-identical answers."""
    graph.write_model(LAYERS, tmp_path / "plain.onnx")
    graph.write_model(LAYERS, tmp_path / "idle.onnx", idle_layers=5)
    np.testing.assert_array_equal(
        _answers(tmp_path / "plain.onnx"), _answers(tmp_path / "idle.onnx")
    )
    operators = [node.op_type for node in onnx.load(tmp_path / "idle.onnx").graph.node]
    assert operators.count("MatMul") == 5


def test_damage_is_only_found_by_running(tmp_path: Path) -> None:
    """A damaged file has its size, loads, holds the same weights in other places, answers else."""
    graph.write_model(LAYERS, tmp_path / "good.onnx")
    graph.damage(tmp_path / "good.onnx", tmp_path / "bad.onnx")
    assert (tmp_path / "good.onnx").stat().st_size == (tmp_path / "bad.onnx").stat().st_size

    def weights(name: str) -> np.ndarray:
        tensors = onnx.load(tmp_path / name).graph.initializer
        return np.sort(np.concatenate([onnx.numpy_helper.to_array(t).ravel() for t in tensors]))

    np.testing.assert_array_equal(weights("good.onnx"), weights("bad.onnx"))
    good, bad = _answers(tmp_path / "good.onnx"), _answers(tmp_path / "bad.onnx")
    assert np.abs(good - bad).max() > 0.1
