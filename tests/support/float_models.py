"""Small float ONNX models for the quantiser's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def mlp_model(*, hidden: int = 128, batch: int | str = "n", opset: int = 20) -> onnx.ModelProto:
    """64 inputs ``x``, one hidden layer, 10 scores ``y``; seeded weights."""
    random = np.random.default_rng(7)
    weights = {
        "w1": random.normal(size=(64, hidden)).astype("f") / 8,
        "b1": random.normal(size=hidden).astype("f") / 8,
        "w2": random.normal(size=(hidden, 10)).astype("f") / 10,
        "b2": random.normal(size=10).astype("f") / 8,
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"], name="first"),
        helper.make_node("Relu", ["hidden"], ["active"], name="relu"),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["y"], name="second"),
    ]
    return model_of(nodes, weights, [batch, 64], [batch, 10], opset=opset)


def conv_model() -> onnx.ModelProto:
    """A convolution with a batch norm behind it, on 1x8x8 images."""
    random = np.random.default_rng(8)
    weights = {
        "k": random.normal(size=(4, 1, 3, 3)).astype("f"),
        "scale": np.linspace(0.5, 2, 4, dtype="f"),
        "shift": np.zeros(4, "f"),
        "mean": random.normal(size=4).astype("f"),
        "variance": np.linspace(0.5, 1.5, 4, dtype="f"),
    }
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv", kernel_shape=[3, 3]),
        helper.make_node(
            "BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["y"], name="norm"
        ),
    ]
    return model_of(nodes, weights, ["n", 1, 8, 8], ["n", 4, 6, 6])


def model_of(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    input_shape: list[int | str],
    output_shape: list[int | str],
    *,
    opset: int = 20,
) -> onnx.ModelProto:
    """A model with one float input ``x`` and one float output ``y``."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def write_calibration(path: Path, *, count: int = 70, shape: tuple[int, ...] = (64,)) -> Path:
    """Seeded samples for ``x``; the same bytes each time."""
    samples = np.random.default_rng(3).random((count, *shape), dtype="f")
    np.savez(path, x=samples)
    return path
