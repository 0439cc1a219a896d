"""Inputs, outputs and operator sets of an ONNX model."""

from __future__ import annotations

from collections.abc import Callable

from edge_sdk.formats.onnx_tensor import DTYPES, SHAPE_MAX
from edge_sdk.formats.tensor_map import TensorFact
from edge_sdk.formats.wire import LEN, VARINT, Field, Wire, signed, tag_of

Text = Callable[[Field], str]

_NAME = tag_of(1, LEN)
_TYPE = tag_of(2, LEN)
_VALUE_WANTED = frozenset({_NAME, _TYPE})

_TENSOR = tag_of(1, LEN)
_OTHER_TYPES = {
    tag_of(4, LEN): "sequence",
    tag_of(5, LEN): "map",
    tag_of(7, LEN): "opaque",
    tag_of(8, LEN): "sparse",
    tag_of(9, LEN): "optional",
}
_TYPE_WANTED = frozenset({_TENSOR, *_OTHER_TYPES})

_ELEMENT = tag_of(1, VARINT)
_SHAPE = tag_of(2, LEN)
_TENSOR_WANTED = frozenset({_ELEMENT, _SHAPE})
_DIMENSION = tag_of(1, LEN)
_DIMENSION_VALUE = tag_of(1, VARINT)
_DIMENSION_NAME = tag_of(2, LEN)

_OPSET_DOMAIN = tag_of(1, LEN)
_OPSET_VERSION = tag_of(2, VARINT)


def read_value(wire: Wire, field: Field, text: Text) -> TensorFact:
    """A ValueInfoProto. Raises: WireError."""
    name = ""
    dtype = "undefined"
    shape: tuple[int, ...] | None = None
    for part in wire.fields(field.start, field.end, _VALUE_WANTED):
        if part.tag == _NAME:
            name = text(part)
            continue
        for kind in wire.fields(part.start, part.end, _TYPE_WANTED):
            dtype, shape = _OTHER_TYPES.get(kind.tag, dtype), None
            if kind.tag == _TENSOR:
                dtype, shape = _tensor_type(wire, kind)
    return TensorFact(name=name, dtype=dtype, shape=shape or (), rank_known=shape is not None)


def _tensor_type(wire: Wire, field: Field) -> tuple[str, tuple[int, ...] | None]:
    dtype = "undefined"
    shape: tuple[int, ...] | None = None
    for part in wire.fields(field.start, field.end, _TENSOR_WANTED):
        if part.tag == _ELEMENT:
            dtype = DTYPES.get(part.value, "undefined")
        else:
            shape = _shape(wire, part)
    return dtype, shape


def _shape(wire: Wire, field: Field) -> tuple[int, ...] | None:
    """-1 for a dimension that has a name, or nothing; None where there are absurdly many."""
    dimensions: list[int] = []
    for part in wire.fields(field.start, field.end, frozenset({_DIMENSION})):
        size = -1
        for held in wire.fields(
            part.start, part.end, frozenset({_DIMENSION_VALUE, _DIMENSION_NAME})
        ):
            size = max(signed(held.value), -1) if held.tag == _DIMENSION_VALUE else -1
        dimensions.append(size)
        if len(dimensions) > SHAPE_MAX:
            return None
    return tuple(dimensions)


def read_opset(wire: Wire, field: Field, text: Text) -> tuple[str, int]:
    """An OperatorSetIdProto: domain (``ai.onnx`` is the standard one, ``""``) and version."""
    domain = ""
    version = 0
    for part in wire.fields(field.start, field.end, frozenset({_OPSET_DOMAIN, _OPSET_VERSION})):
        if part.tag == _OPSET_DOMAIN:
            domain = text(part)
        else:
            version = signed(part.value)
    return ("" if domain == "ai.onnx" else domain), version
