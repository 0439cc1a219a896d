"""The smallest ONNX models there are, to find out which a library reads. No file is touched."""

from __future__ import annotations

# Far above what exists (IR 14, operator set 28 in 2026): loading stops being tried there.
IR_NEWEST = 24
OPSET_NEWEST = 40
# Read by everything that is still in use.
IR_OLD = 7
OPSET_OLD = 13

# Domain: an operator from float32 to float32 that has been in it since its first set.
DOMAINS = {"": "Abs", "ai.onnx.ml": "Binarizer", "com.microsoft": "Gelu"}


def smallest_model(ir_version: int, domain: str, opset: int) -> bytes:
    """One node, float32 in and out, as ``onnx.proto`` lays a ModelProto out."""
    node = _text(1, "x") + _text(2, "y") + _text(4, DOMAINS[domain]) + _text(7, domain)
    dimension = _bytes(2, _bytes(1, _number(1, 1)))
    kind = _bytes(1, _number(1, 1) + dimension)
    graph = (
        _bytes(1, node)
        + _text(2, "g")
        + _bytes(11, _text(1, "x") + _bytes(2, kind))
        + _bytes(12, _text(1, "y") + _bytes(2, kind))
    )
    operator_set = _text(1, domain) + _number(2, opset)
    return _number(1, ir_version) + _bytes(7, graph) + _bytes(8, operator_set)


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _bytes(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    coded = bytearray()
    while value >= 0x80:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    coded.append(value)
    return bytes(coded)
