"""Tiny ONNX models for tests, built with IR 10 and opset 21: every supported engine loads them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR_VERSION = 10
OPSET = 21


def finish(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A whole model from the parts of its graph."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    return helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )


def save(model: onnx.ModelProto, path: Path, *, external: str | None = None) -> Path:
    """Writes a model; ``external`` names the file beside it that takes the weights."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if external is None:
        path.write_bytes(model.SerializeToString(deterministic=True))
    else:
        onnx.save_model(
            model,
            str(path),
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=external,
            size_threshold=0,
            convert_attribute=False,
        )
    return path


def value(name: str, dtype: int, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def linear(scale: float, *, features: int = 4, bias: float = 0.0) -> onnx.ModelProto:
    """``y = x * scale + bias``; x and y are float32 of shape (batch, features)."""
    shape = ["batch", features]
    return finish(
        [
            helper.make_node("Mul", ["x", "scale"], ["scaled"]),
            helper.make_node("Add", ["scaled", "bias"], ["y"]),
        ],
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.full(features, scale, np.float32), "scale"),
            numpy_helper.from_array(np.full(features, bias, np.float32), "bias"),
        ],
    )


def mlp(
    sizes: Sequence[int] = (64, 32, 10),
    *,
    seed: int = 0,
    weights: Sequence[np.ndarray] | None = None,
    repeats: int = 0,
) -> onnx.ModelProto:
    """A perceptron with Relu between layers; x is (batch, sizes[0]), y (batch, sizes[-1]).

    ``weights`` (a matrix per layer) replaces the seeded ones. ``repeats`` puts that many
    layers in front that change nothing but cost time.
    """
    random = np.random.default_rng(seed)
    if weights is None:
        weights = [
            (random.standard_normal((before, after)) / np.sqrt(before)).astype(np.float32)
            for before, after in itertools.pairwise(sizes)
        ]
    nodes = []
    tensors = []
    current = "x"
    if repeats:
        tensors.append(numpy_helper.from_array(np.eye(sizes[0], dtype=np.float32), "identity"))
    for number in range(repeats):
        nodes.append(helper.make_node("MatMul", [current, "identity"], [f"same{number}"]))
        current = f"same{number}"
    for number, matrix in enumerate(weights):
        last = number == len(weights) - 1
        tensors.append(numpy_helper.from_array(matrix, f"layer{number}.weight"))
        product = "y" if last else f"product{number}"
        nodes.append(helper.make_node("MatMul", [current, f"layer{number}.weight"], [product]))
        if not last:
            nodes.append(helper.make_node("Relu", [product], [f"hidden{number}"]))
            current = f"hidden{number}"
    return finish(
        nodes,
        [value("x", TensorProto.FLOAT, ["batch", sizes[0]])],
        [value("y", TensorProto.FLOAT, ["batch", sizes[-1]])],
        tensors,
    )


def trap(features: int = 64) -> onnx.ModelProto:
    """Loads, and kills its engine where x is 1: the remainder of the smallest integer by -1
    is a fault of the processor (SIGFPE on x86; where it is none, y is zeros)."""
    shape = ["batch", features]
    return finish(
        [
            helper.make_node("Cast", ["x"], ["whole"], to=TensorProto.INT32),
            helper.make_node("Mul", ["whole", "smallest"], ["dividend"]),
            helper.make_node("Neg", ["whole"], ["divisor"]),
            helper.make_node("Mod", ["dividend", "divisor"], ["rest"]),
            helper.make_node("Cast", ["rest"], ["y"], to=TensorProto.FLOAT),
        ],
        [value("x", TensorProto.FLOAT, shape)],
        [value("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array([np.iinfo(np.int32).min], np.int32), "smallest")],
    )


def identity(dtype: int, shape: Sequence[int | str | None] = ("n",)) -> onnx.ModelProto:
    """``y = x`` for one element type (a ``TensorProto`` number)."""
    return finish(
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", dtype, shape)],
        [value("y", dtype, shape)],
    )


def nonzero() -> onnx.ModelProto:
    """``where`` = coordinates of what is not zero in x (n, 2), ``twice`` = x + x.

    The shape of ``where`` depends on the data.
    """
    return finish(
        [
            helper.make_node("NonZero", ["x"], ["where"]),
            helper.make_node("Add", ["x", "x"], ["twice"]),
        ],
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("where", TensorProto.INT64, [2, None]), value("twice", TensorProto.FLOAT, ["n", 2])],
    )


def sequence() -> onnx.ModelProto:
    """A model whose output is a sequence, which no wire format of ours can carry."""
    return finish(
        [helper.make_node("SequenceConstruct", ["x", "x"], ["y"])],
        [value("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )


def remembering() -> onnx.ModelProto:
    """Two states: ``sum.next = sum / 2 + x`` and ``cache.next``, which is ``cache`` with x as one
    row more; ``y = sum.next + the sum of cache.next``. x is float32 (batch, 2)."""
    rows, cache = ["batch", 2], ["batch", "seen", 2]
    return finish(
        [
            helper.make_node("Mul", ["sum", "half"], ["less"]),
            helper.make_node("Add", ["less", "x"], ["sum.next"]),
            helper.make_node("Unsqueeze", ["x", "axis"], ["row"]),
            helper.make_node("Concat", ["cache", "row"], ["cache.next"], axis=1),
            helper.make_node("ReduceSum", ["cache.next", "axis"], ["all"], keepdims=0),
            helper.make_node("Add", ["sum.next", "all"], ["y"]),
        ],
        [
            value("x", TensorProto.FLOAT, rows),
            value("sum", TensorProto.FLOAT, rows),
            value("cache", TensorProto.FLOAT, cache),
        ],
        [
            value("y", TensorProto.FLOAT, rows),
            value("sum.next", TensorProto.FLOAT, rows),
            value("cache.next", TensorProto.FLOAT, ["batch", "more", 2]),
        ],
        [
            numpy_helper.from_array(np.array([0.5, 0.5], np.float32), "half"),
            numpy_helper.from_array(np.array([1], np.int64), "axis"),
        ],
    )


def ort_model(folder: Path) -> bytes:
    """In ONNX Runtime's own format: a choice whose branches have operators of ``com.microsoft``."""
    import os

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    def branch(name: str, operator: str) -> onnx.GraphProto:
        node = helper.make_node(operator, ["x"], [name], domain="com.microsoft")
        return helper.make_graph([node], name, [], [value(name, TensorProto.FLOAT, [4])])

    choice = helper.make_node(
        "If", ["c"], ["y"], then_branch=branch("a", "Gelu"), else_branch=branch("b", "QuickGelu")
    )
    graph = helper.make_graph(
        [choice],
        "choice",
        [value("x", TensorProto.FLOAT, [4]), value("c", TensorProto.BOOL, [])],
        [value("y", TensorProto.FLOAT, [4])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.optimized_model_filepath = str(folder / "made.ort")
    onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return (folder / "made.ort").read_bytes()
