"""Reads a float ONNX model, with its external data, and says what matters for quantising it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from edge_sdk.base import (
    Digest,
    FormatError,
    RefusedError,
    UsageError,
    explain_os_error,
    prove_stream,
)

MODEL_BYTES_MAX = 2**31 - 1  # of a protobuf message, which the quantiser holds the model in
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_QUANTISED = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger",
     "MatMulInteger", "QLinearConv", "QLinearMatMul", "MatMulNBits"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFact:
    """An input that a caller has to give. A dimension of -1 is dynamic."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatModel:
    """A model in memory.

    ``heavy_nodes``: how many quantising makes smaller and faster; ``size_bytes``: weights
    included wherever they lie; ``sha256``: of the model file alone.
    """

    proto: onnx.ModelProto
    inputs: tuple[InputFact, ...]
    outputs: tuple[str, ...]
    opset: int
    heavy_nodes: int
    size_bytes: int
    sha256: str


def read_float_model(path: Path) -> FloatModel:
    """Loads and checks ``path``.

    Raises: NotFoundError, UsageError, FormatError (no valid ONNX, or data outside its folder),
    RefusedError (already quantised, nothing in it to quantise, or over 2 GiB).
    """
    proto = _load(path)
    nodes = list(_nodes(proto.graph))
    marks = sorted({node.op_type for node in nodes} & _QUANTISED)
    if marks:
        raise RefusedError(f"{path} is quantised already (it holds {marks[0]}); give the original")
    heavy = sum(node.op_type in _HEAVY for node in nodes)
    if not heavy:
        wanted = ", ".join(sorted(_HEAVY))
        raise RefusedError(f"{path} has nothing to quantise: no {wanted}")
    weights = {tensor.name for tensor in proto.graph.initializer}
    return FloatModel(
        proto=proto,
        inputs=tuple(_input(one) for one in proto.graph.input if one.name not in weights),
        outputs=tuple(one.name for one in proto.graph.output),
        opset=max(one.version for one in proto.opset_import if one.domain in ("", "ai.onnx")),
        heavy_nodes=heavy,
        size_bytes=proto.ByteSize(),
        sha256=str(_sha256(path)),
    )


def _load(path: Path) -> onnx.ModelProto:
    try:
        # Asked before opening: a FIFO would wait for a writer, /dev/zero never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is not a regular file; name an ONNX model")
        with path.open("rb"):
            pass
        # By path: the checker then also looks at external data, and refuses what lies outside.
        onnx.checker.check_model(str(path))
        proto = onnx.load(path)
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FormatError(f"{path} is not a valid ONNX model: {reason}") from None
    if proto.ByteSize() > MODEL_BYTES_MAX:
        raise RefusedError(f"{path} is over 2 GiB; this release cannot quantise such models")
    return proto


def _sha256(path: Path) -> Digest:
    with path.open("rb") as stream:
        return prove_stream(stream).sha256


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every node, those of sub-graphs included (an explicit stack: depth is the file's word)."""
    waiting = [graph]
    while waiting:
        for node in waiting.pop().node:
            yield node
            for attribute in node.attribute:
                waiting.extend(attribute.graphs)
                if attribute.HasField("g"):
                    waiting.append(attribute.g)


def _input(value: onnx.ValueInfoProto) -> InputFact:
    tensor = value.type.tensor_type
    if tensor.elem_type in (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING):
        raise RefusedError(f"input {value.name!r} is not a tensor of numbers")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return InputFact(
        name=value.name,
        dtype=str(dtype),
        shape=tuple(one.dim_value if one.HasField("dim_value") else -1 for one in tensor.shape.dim),
    )
