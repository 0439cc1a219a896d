"""Models by what decides about them: the way there, their weights, their arithmetic, their time."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Shape = tuple[int | str, ...]

SMALL = "bench/small"  # 64 floats in, 10 out, two products
LARGE = "bench/large"  # 600 KB in, 10 floats out
SHAPES = {SMALL: (1, 64), LARGE: (1, 3, 224, 224)}
WEIGHTS_SHAPE, CONVOLUTION_SHAPE, SLOW_SHAPE = (1, 512), (1, 16, 56, 56), (64, 512)
_IR_VERSION, _OPSET = 10, 21
_SLOW_TRIES = 5


def write_models(folder: Path) -> dict[str, Path]:
    """The files of the two models that cost next to nothing, by name."""
    return {
        SMALL: write(small(), folder / SMALL),
        LARGE: write(large(), folder / LARGE),
    }


def small() -> onnx.ModelProto:
    seeded = np.random.default_rng(0)
    first = seeded.standard_normal((64, 32)).astype(np.float32)
    second = seeded.standard_normal((32, 10)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["between"]),
        helper.make_node("MatMul", ["between", "second"], ["y"]),
    ]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    return _model(nodes, (1, 64), (1, 10), weights)


def large() -> onnx.ModelProto:
    """The mean of each colour, repeated to ten numbers."""
    pick = numpy_helper.from_array(np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0], np.int64), "pick")
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gather", ["flat", "pick"], ["y"], axis=1),
    ]
    return _model(nodes, (1, 3, 224, 224), (1, 10), [pick])


def large_echo() -> onnx.ModelProto:
    """600 KB in and out."""
    return _model([helper.make_node("Relu", ["x"], ["y"])], SHAPES[LARGE], SHAPES[LARGE], [])


def weight_bound(path: Path, *, seed: int = 0) -> Path:
    """An MLP of 12 MB whose batch is free: reading its weights is what costs. Another seed
    gives other answers."""
    widths = (512, 1024, 1536, 640, 10)
    seeded = np.random.default_rng(seed)
    nodes, weights, before = [], [], "x"
    for number, (rows, columns) in enumerate(itertools.pairwise(widths)):
        values = (seeded.standard_normal((rows, columns)) / rows**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        last = number == len(widths) - 2
        product = "y" if last else f"p{number}"
        nodes.append(helper.make_node("MatMul", [before, f"w{number}"], [product]))
        if not last:
            nodes.append(helper.make_node("Relu", [product], [f"r{number}"]))
            before = f"r{number}"
    return write(_model(nodes, ("batch", 512), ("batch", 10), weights), path)


def tuned(source: Path, folder: Path) -> Path:
    """The same network with each weight moved by about a thousandth, as a fine-tune does."""
    model = onnx.load(source)
    seeded = np.random.default_rng(7)
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        moved = values * (1 + 1e-3 * seeded.standard_normal(values.shape))
        weight.CopyFrom(numpy_helper.from_array(moved.astype(np.float32), weight.name))
    return write(model, folder)


def convolution(path: Path) -> Path:
    """Three convolutions of 16 channels over 56 x 56, batch free: arithmetic is what costs."""
    seeded = np.random.default_rng(0)
    nodes, weights, before = [], [], "x"
    for number in range(3):
        values = (seeded.standard_normal((16, 16, 3, 3)) / 12).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        nodes.append(
            helper.make_node("Conv", [before, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1])
        )
        before = f"c{number}"
    nodes += [
        helper.make_node("GlobalAveragePool", [before], ["means"]),
        helper.make_node("Flatten", ["means"], ["y"]),
    ]
    return write(_model(nodes, ("batch", 16, 56, 56), ("batch", 16), weights), path)


def lasting(path: Path, milliseconds: float) -> Path:
    """As many products of 64 x 512 by 512 x 512 as take this long on one thread here."""
    write(_products(20), path)
    one_ms = _run_ms(path / "model.onnx", np.ones(SLOW_SHAPE, np.float32)) / 20
    return write(_products(max(1, round(milliseconds / one_ms))), path)


def bare(path: Path) -> Any:
    """ONNX Runtime's own session, on one thread that does not spin."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options)


def _products(count: int) -> onnx.ModelProto:
    turned, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((512, 512)))
    nodes = [
        helper.make_node("MatMul", [f"p{number}" if number else "x", "w"], [f"p{number + 1}"])
        for number in range(count)
    ]
    nodes.append(helper.make_node("ReduceMean", [f"p{count}"], ["y"], keepdims=1))
    weights = [numpy_helper.from_array(turned.astype(np.float32), "w")]
    return _model(nodes, SLOW_SHAPE, (1, 1), weights)


def _run_ms(path: Path, given: Array) -> float:
    session = bare(path)
    taken = []
    for _ in range(_SLOW_TRIES):
        began_s = time.thread_time()  # neighbours on the core must not make the model smaller
        session.run(None, {"x": given})
        taken.append(1000 * (time.thread_time() - began_s))
    return min(taken)


def write(model: onnx.ModelProto, folder: Path) -> Path:
    """``model.onnx`` in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def _model(
    nodes: list[onnx.NodeProto], given: Shape, answered: Shape, weights: list[onnx.TensorProto]
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
