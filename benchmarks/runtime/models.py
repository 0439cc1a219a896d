"""Models that cost next to nothing, so that the way to them is what is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SMALL = "bench/small"  # 64 floats in, 10 out, two products
LARGE = "bench/large"  # 600 KB in, 10 floats out
SHAPES = {SMALL: (1, 64), LARGE: (1, 3, 224, 224)}
_IR_VERSION, _OPSET = 10, 21


def write_models(folder: Path) -> dict[str, Path]:
    """The files of both models, by name."""
    made = {SMALL: _small(), LARGE: _large()}
    paths = {}
    for name, model in made.items():
        paths[name] = folder / name / "model.onnx"
        paths[name].parent.mkdir(parents=True)
        paths[name].write_bytes(model.SerializeToString(deterministic=True))
    return paths


def _small() -> onnx.ModelProto:
    seeded = np.random.default_rng(0)
    first = seeded.standard_normal((64, 32)).astype(np.float32)
    second = seeded.standard_normal((32, 10)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["between"]),
        helper.make_node("MatMul", ["between", "second"], ["y"]),
    ]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    return _model(nodes, (1, 64), (1, 10), weights)


def _large() -> onnx.ModelProto:
    """The mean of each colour, repeated to ten numbers."""
    pick = numpy_helper.from_array(np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], np.int64), "pick")
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gather", ["flat", "pick"], ["y"], axis=1),
    ]
    return _model(nodes, (1, 3, 224, 224), (1, 10), [pick])


def _model(
    nodes: list[onnx.NodeProto],
    given: tuple[int, ...],
    answered: tuple[int, ...],
    weights: list[onnx.TensorProto],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, answered)],
        weights,
    )
    return helper.make_model(
        graph, ir_version=_IR_VERSION, opset_imports=[helper.make_opsetid("", _OPSET)]
    )
