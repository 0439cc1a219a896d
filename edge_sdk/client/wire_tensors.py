"""Tensors as the Open Inference Protocol carries them: names of types, and bytes.

Little-endian, C order. BYTES: per element a 4-byte length and the bytes. Only NumPy is
needed here; bfloat16 stays its bit patterns (uint16).
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import UsageError

# The protocol's name: ours.
DTYPES = {
    "BOOL": "bool",
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "bfloat16",
    "BYTES": "string",
}
DATATYPES = {ours: theirs for theirs, ours in DTYPES.items()}

_LENGTH = struct.Struct("<I")


def encode_array(array: NDArray[Any]) -> bytes:
    """The bytes of one tensor; an object array holds str or bytes."""
    if array.dtype == object:
        return encode_texts(array.ravel().tolist())
    if sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("<"))
    return array.tobytes()


def encode_texts(elements: Sequence[str | bytes]) -> bytes:
    parts = []
    for element in elements:
        data = element.encode() if isinstance(element, str) else bytes(element)
        parts += [_LENGTH.pack(len(data)), data]
    return b"".join(parts)


def decode_texts(data: bytes) -> list[bytes]:
    """Raises: UsageError where a length leads beyond the end."""
    elements: list[bytes] = []
    begin = 0
    while begin < len(data):
        end = begin + _LENGTH.size
        if end <= len(data):
            end += _LENGTH.unpack_from(data, begin)[0]
        if end > len(data):
            raise UsageError(f"a BYTES tensor is cut off in element {len(elements)}")
        elements.append(data[begin + _LENGTH.size : end])
        begin = end
    return elements


def decode_array(datatype: str, shape: Sequence[int], data: bytes) -> NDArray[Any]:
    """One tensor of an answer; a copy that can be written to.

    Raises: UsageError where datatype, shape and bytes do not go together.
    """
    if datatype not in DTYPES:
        raise UsageError(f"datatype {datatype!r} is not known here")
    if datatype == "BYTES":
        elements = decode_texts(data)
        array = np.empty(len(elements), object)
        array[:] = [element.decode("utf-8", "surrogateescape") for element in elements]
    else:
        kind = np.dtype("uint16" if datatype == "BF16" else DTYPES[datatype])
        if len(data) % kind.itemsize:
            raise UsageError(f"{len(data)} bytes are no tensor of {datatype}")
        array = np.frombuffer(data, kind.newbyteorder("<")).astype(kind)
    try:
        return array.reshape(tuple(shape))
    except ValueError:
        raise UsageError(
            f"{array.size} elements of {datatype} do not have shape {list(shape)}"
        ) from None
