"""What stays the same where only weights change: a digest of an ONNX model less its weights.

Weights are float tensors of more than one element. Everything else counts: operators,
attributes, shapes, and the values of integers, which networks use as shapes and indices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from edge_sdk.engines.tensorrt.rules import FLOATS, PLAIN
from edge_sdk.formats import TensorMap
from edge_sdk.formats.tensor_map import TensorRange

_BLOCK_BYTES = 1 << 20


def structure_of(model: TensorMap) -> str:
    """A digest in hexadecimal; empty for a quantised model, whose scales a plan has taken in.

    Raises: OSError.
    """
    if any(tensor.dtype not in PLAIN for tensor in model.tensors):
        return ""
    digest = hashlib.sha256()
    for tensor in model.tensors:
        digest.update(repr((tensor.name, tensor.dtype, tensor.shape, tensor.file)).encode())
        if not is_weight(tensor):
            _add(digest, model.path.parent / tensor.file, tensor.offset, tensor.end)
    for begin, end in _between(model):
        digest.update(repr((begin, end)).encode())
        _add(digest, model.path, begin, end)
    return digest.hexdigest()


def is_weight(tensor: TensorRange) -> bool:
    """A single float may be a bound or an epsilon that was worked into the code of a plan."""
    return tensor.dtype in FLOATS and tensor.shape not in ((), (1,))


def _between(model: TensorMap) -> Iterator[tuple[int, int]]:
    """The parts of the model's own file that are no tensor."""
    at = 0
    for tensor in model.tensors:
        if tensor.file == model.path.name:
            yield at, tensor.offset
            at = tensor.end
    yield at, model.path.stat().st_size


def _add(digest: hashlib._Hash, path: Path, begin: int, end: int) -> None:
    with path.open("rb") as stream:
        stream.seek(begin)
        while begin < end:
            block = stream.read(min(_BLOCK_BYTES, end - begin))
            if not block:
                return
            digest.update(block)
            begin += len(block)
