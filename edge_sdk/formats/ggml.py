"""Files of ggml before GGUF, such as those of whisper.cpp: a header of the model's own, tensors.

Each tensor states itself before its bytes: count of dimensions, length of the name, type (int32
each), dimensions (int32 each, the fastest first), the name. Only the model knows its header, so
the tensors are looked for: they begin where one after the other can be read to the file's very
end. What has no such place, or pads its tensors, has no ranges and is opaque.
Source: examples/common-ggml.cpp of ggml, src/whisper.cpp of whisper.cpp
"""

from __future__ import annotations

import struct

import numpy as np

from edge_sdk.formats.ggml_types import DIMENSIONS_MAX, ggml_range
from edge_sdk.formats.model_file import Contents, Format, ModelFile
from edge_sdk.formats.tensor_map import TensorRange

_MAGIC = b"lmgg"
# A vocabulary takes a megabyte.
_HEADER_BYTES_MAX = 8 << 20
_STATED = struct.Struct("<iii")
_NAME_BYTES_MAX = 128
_TYPE_MAX = 63
# Tensors read in all tries together.
_STEPS_MAX = 1 << 16


def read(file: ModelFile) -> Contents | None:
    """The ranges of all tensors; None where the file is something else."""
    if file.data[: len(_MAGIC)] != _MAGIC:
        return None
    left = _STEPS_MAX
    for start in _beginnings(file):
        found, end = _tensors(file, start, left)
        if end == file.size_bytes:
            return Contents(tensors=found)
        left -= len(found) + 1
        if left <= 0:
            break
    return None


def _beginnings(file: ModelFile) -> list[int]:
    """Offsets at which three numbers are such as a tensor states first."""
    header = np.frombuffer(file.data[:_HEADER_BYTES_MAX], np.uint8)
    count = len(header) - _STATED.size + 1
    if count <= 0:
        return []
    likely = np.ones(count, np.bool_)
    for at, least, most in ((0, 0, DIMENSIONS_MAX), (4, 1, _NAME_BYTES_MAX), (8, 0, _TYPE_MAX)):
        lowest = header[at : at + count]
        likely &= (lowest >= least) & (lowest <= most)
        for upper in range(at + 1, at + 4):
            likely &= header[upper : upper + count] == 0
    return [int(start) for start in np.flatnonzero(likely)]


def _tensors(file: ModelFile, start: int, most: int) -> tuple[list[TensorRange], int]:
    """Tensors that follow each other from ``start`` on, and where the last one ends."""
    found: list[TensorRange] = []
    at = start
    while len(found) < most:
        tensor = _tensor(file, at)
        if tensor is None:
            break
        found.append(tensor)
        at = tensor.end
    return found, at


def _tensor(file: ModelFile, at: int) -> TensorRange | None:
    stated = file.data[at : at + _STATED.size]
    if len(stated) < _STATED.size:
        return None
    rank, name_bytes, number = _STATED.unpack(stated)
    if not 0 <= rank <= DIMENSIONS_MAX or not 0 < name_bytes <= _NAME_BYTES_MAX:
        return None
    name_at = at + _STATED.size + 4 * rank
    dimensions = struct.unpack(f"<{rank}I", file.data[at + _STATED.size : name_at].ljust(4 * rank))
    name = file.data[name_at : name_at + name_bytes].decode("utf-8", "replace")
    if not name.isprintable():
        return None
    tensor = ggml_range(name, number, dimensions, file.path.name, name_at + name_bytes)
    return tensor if tensor and tensor.end <= file.size_bytes else None


FORMAT = Format(name="ggml", read=read)
