"""ONNX models whose weights of 16 KiB and more are used in every way that matters to a loader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.onnx_models import value

_RANDOM = np.random.default_rng(0)
_ROW = value("x", TensorProto.FLOAT, [1, 128])
_ROW_OUT = value("y", TensorProto.FLOAT, [1, 128])


def _weights(name: str, *shape: int, dtype: Any = np.float32) -> onnx.TensorProto:
    return numpy_helper.from_array((_RANDOM.standard_normal(shape) * 0.1).astype(dtype), name)


def _model(
    nodes: list[onnx.NodeProto],
    given: onnx.ValueInfoProto | list[onnx.ValueInfoProto],
    made: onnx.ValueInfoProto | list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
    *,
    ir_version: int = 8,
    opset: int = 17,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        given if isinstance(given, list) else [given],
        made if isinstance(made, list) else [made],
        weights,
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, ir_version=ir_version, opset_imports=opsets)


def _recurrent() -> onnx.ModelProto:
    return _model(
        [helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=64)],
        value("x", TensorProto.FLOAT, [5, 1, 32]),
        value("y", TensorProto.FLOAT, [5, 1, 1, 64]),
        [_weights("w", 1, 256, 32), _weights("r", 1, 256, 64)],
    )


def _folded() -> onnx.ModelProto:
    """What depends on weights alone is computed while the model is loaded."""
    return _model(
        [
            helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
            helper.make_node("MatMul", ["x", "turned"], ["y"]),
        ],
        _ROW,
        value("y", TensorProto.FLOAT, [1, 256]),
        [_weights("w", 256, 128)],
    )


def _looked_up() -> onnx.ModelProto:
    """Whole numbers of 64 bits, which the library looks at to find shapes."""
    indices = numpy_helper.from_array(_RANDOM.integers(0, 512, 4096), "indices")
    return _model(
        [
            helper.make_node("Gather", ["w", "indices"], ["g"]),
            helper.make_node("Add", ["g", "x"], ["y"]),
        ],
        value("x", TensorProto.FLOAT, [1]),
        value("y", TensorProto.FLOAT, [4096, 64]),
        [_weights("w", 512, 64), indices],
    )


def _answered() -> onnx.ModelProto:
    return _model(
        [helper.make_node("Identity", ["x"], ["y"])],
        _ROW,
        [_ROW_OUT, value("w", TensorProto.FLOAT, [128, 128])],
        [_weights("w", 128, 128)],
    )


def _old() -> onnx.ModelProto:
    """Before IR version 4, weights are inputs too, which a request may replace."""
    return _model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [_ROW, value("w", TensorProto.FLOAT, [128, 128])],
        _ROW_OUT,
        [_weights("w", 128, 128)],
        ir_version=3,
        opset=9,
    )


def _branched() -> onnx.ModelProto:
    """Used by the graphs inside a node, from the graph around it."""

    def branch(weights: str) -> onnx.GraphProto:
        out = value("r", TensorProto.FLOAT, [1, 128])
        node = helper.make_node("MatMul", ["x", weights], ["r"])
        return helper.make_graph([node], weights, [], [out])

    return _model(
        [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["is"]),
            helper.make_node("If", ["is"], ["y"], then_branch=branch("w"), else_branch=branch("v")),
        ],
        _ROW,
        _ROW_OUT,
        [
            _weights("w", 128, 128),
            _weights("v", 128, 128),
            numpy_helper.from_array(np.float32(0), "zero"),
        ],
    )


def _fused() -> onnx.ModelProto:
    """A convolution takes in the normalisation behind it: its weights become others."""
    small = [_weights(name, 64) for name in ("scale", "bias", "mean")]
    return _model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node(
                "BatchNormalization", ["c", "scale", "bias", "mean", "variance"], ["y"]
            ),
        ],
        value("x", TensorProto.FLOAT, [1, 32, 8, 8]),
        value("y", TensorProto.FLOAT, [1, 64, 8, 8]),
        [
            _weights("w", 64, 32, 3, 3),
            *small,
            numpy_helper.from_array(np.ones(64, np.float32), "variance"),
        ],
    )


def _tied() -> onnx.ModelProto:
    return _model(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("MatMul", ["a", "w"], ["y"]),
        ],
        _ROW,
        _ROW_OUT,
        [_weights("w", 128, 128)],
    )


def _halves() -> onnx.ModelProto:
    return _model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        value("x", TensorProto.FLOAT16, [1, 128]),
        value("y", TensorProto.FLOAT16, [1, 128]),
        [_weights("w", 128, 128, dtype=np.float16)],
    )


def _four_bits() -> onnx.ModelProto:
    packed = numpy_helper.from_array(_RANDOM.integers(0, 255, (256, 8, 16)).astype(np.uint8), "w")
    sizes = {"K": 256, "N": 256, "bits": 4, "block_size": 32}
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "scales"], ["y"], domain="com.microsoft", **sizes
    )
    return _model(
        [node],
        value("x", TensorProto.FLOAT, [1, 256]),
        value("y", TensorProto.FLOAT, [1, 256]),
        [packed, _weights("scales", 2048)],
    )


MODELS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "recurrent": _recurrent,
    "folded": _folded,
    "looked-up": _looked_up,
    "answered": _answered,
    "old": _old,
    "branched": _branched,
    "fused": _fused,
    "tied": _tied,
    "halves": _halves,
    "four-bits": _four_bits,
}
