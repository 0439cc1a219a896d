"""ONNX files from trained layers, and the two ways in which the demo spoils a version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from demo.mlp import Layers

# What the engine of the oldest device loads; onnx alone would write a newer form that no
# engine reads yet.
IR_VERSION = 10
OPSET = 21

INPUT = "pixels"
OUTPUT = "scores"


def write_model(
    layers: Layers,
    path: Path,
    *,
    dtype: type[np.floating] = np.float32,
    idle_layers: int = 0,
) -> None:
    """Writes ``scores (n, classes) = layers(pixels (n, inputs))``; both are float32.

    ``dtype`` is that of the weights. ``idle_layers`` multiplications by the identity are put
    before the last layer: they change no value and cost their time.
    """
    half = dtype is np.float16
    nodes = [helper.make_node("Cast", [INPUT], ["cast"], to=TensorProto.FLOAT16)] if half else []
    weights = []
    value = "cast" if half else INPUT
    for number, layer in enumerate(layers):
        last = number == len(layers) - 1
        if last and idle_layers:
            eye = np.eye(len(layer.weight), dtype=dtype)
            weights.append(numpy_helper.from_array(eye, "identity"))
            for idle in range(idle_layers):
                nodes.append(helper.make_node("MatMul", [value, "identity"], [f"idle{idle}"]))
                value = f"idle{idle}"
        for name, array in (("weight", layer.weight), ("bias", layer.bias)):
            weights.append(numpy_helper.from_array(array.astype(dtype), f"layer{number}.{name}"))
        out = OUTPUT if last and not half else f"linear{number}"
        nodes.append(
            helper.make_node("Gemm", [value, f"layer{number}.weight", f"layer{number}.bias"], [out])
        )
        value = out
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"relu{number}"]))
            value = f"relu{number}"
    if half:
        nodes.append(helper.make_node("Cast", [value], [OUTPUT], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "digits",
        [_tensor(INPUT, len(layers[0].weight))],
        [_tensor(OUTPUT, len(layers[-1].bias))],
        weights,
    )
    model = helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _tensor(name: str, width: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])


def damage(source: Path, target: Path) -> None:
    """Copies a model and puts the first half of its largest tensor into reverse order.

    The file has the same size, loads, and holds weights of the same distribution: only its
    answers are wrong, as after a conversion that mixed up its rows.
    """
    model = onnx.load(source)
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    item_bytes = helper.tensor_dtype_to_np_dtype(largest.data_type).itemsize
    weights = np.frombuffer(largest.raw_data, np.uint8).reshape(-1, item_bytes).copy()
    half = len(weights) // 2
    weights[:half] = weights[:half][::-1].copy()
    largest.raw_data = weights.tobytes()
    target.write_bytes(model.SerializeToString(deterministic=True))
