"""Protocol-buffer bytes by hand, for files that no library would write."""

from __future__ import annotations


def varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def message(field: int, *parts: bytes) -> bytes:
    """A field with a length: a message, a string or bytes."""
    content = b"".join(parts)
    return varint(field << 3 | 2) + varint(len(content)) + content


def onnx_model(*graph: bytes, ir_version: int = 10) -> bytes:
    """A ModelProto with standard operators of set 21 around the fields of a graph."""
    return (
        number(1, ir_version)
        + message(7, message(2, b"graph"), *graph)
        + message(8, message(1), number(2, 21))
    )


def onnx_tensor(*parts: bytes, name: str = "w", dtype: int = 1, shape: tuple[int, ...]) -> bytes:
    """The fields of a TensorProto."""
    return (
        b"".join(number(1, size) for size in shape)
        + number(2, dtype)
        + message(8, name.encode())
        + b"".join(parts)
    )


def onnx_external(name: str = "w", *, shape: tuple[int, ...] = (2,), **entries: str) -> bytes:
    """The fields of a float TensorProto whose values are in another file."""
    pairs = [
        message(13, message(1, key.encode()), message(2, value.encode()))
        for key, value in entries.items()
    ]
    return onnx_tensor(*pairs, number(14, 1), name=name, shape=shape)
