"""How an ONNX model is given to ONNX Runtime so that its weights are read where they lie.

The library maps external data; without prepacking it computes from the mapped pages: no private
copy, and a session of 100 MB in 3 ms. With it the pages are copied once, in the order that
suits the processor, instead of twice (docs/engines.md). Weights inside the model file it would
copy first; so it is given the rest of the model, which points at them.
"""

from __future__ import annotations

import platform
from pathlib import Path

from edge_sdk.base import EdgeError
from edge_sdk.formats import DTYPE_BITS, TensorMap, TensorRange, onnx_skeleton, open_model

# A mapping costs at least a page and an entry in the system's table; small tensors also decide
# about shapes while the graph is made, where the library wants to see them.
_MAPPED_BYTES_MIN = 16 << 10
_SMALL_INTEGERS = frozenset({"int8", "uint8", "int4", "uint4"})
# Weights inside a model lie at any byte. These processors read numbers from there; others may
# stop the process, and get only what lies well.
_READS_ANYWHERE = frozenset({"x86_64", "AMD64", "aarch64", "arm64"})


def skeleton_of(model: TensorMap, *, machine: str | None = None) -> bytes | None:
    """The model with its large weights as external data in its own file; None: it has none.

    ``machine``: as ``platform.machine()`` says. Raises: FormatError, UnavailableError.
    """
    anywhere = (machine or platform.machine()) in _READS_ANYWHERE
    outside = frozenset(
        tensor
        for tensor in model.tensors
        if tensor.file == model.path.name
        and tensor.length >= _MAPPED_BYTES_MIN
        and (anywhere or _is_aligned(tensor))
    )
    # Beside a link its target's folder is another one than that of its external data.
    if not outside or model.path.is_symlink():
        return None
    return onnx_skeleton(model.path, outside)


def is_quantised(entry: Path) -> bool:
    """Whether at least half of a model's weights, by bytes, are integers of 8 bits or less."""
    try:
        model = open_model(entry)
    except EdgeError:
        return False  # whoever loads it says why
    tensors = model.tensors if model.format == "onnx" else ()
    small = sum(one.length for one in tensors if one.dtype in _SMALL_INTEGERS)
    return 2 * small >= sum(one.length for one in tensors) > 0


def folder_of(model: TensorMap) -> str:
    """Where the library is to look for the files that a skeleton names."""
    return str(Path(model.path).resolve().parent)


def _is_aligned(tensor: TensorRange) -> bool:
    return tensor.offset % max(1, DTYPE_BITS[tensor.dtype] // 8) == 0
