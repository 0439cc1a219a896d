"""Types of numbers in the files of ggml: plain ones, and blocks of quantised ones.

A block holds scales and packed integers together, so it has no element type: its tensor is bytes,
with the blocks as last dimensions. Source: ggml/include/ggml.h, gguf-py/gguf/constants.py
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from edge_sdk.formats.tensor_map import TensorRange, packed_bytes

_PLAIN: Mapping[int, str] = MappingProxyType(
    {
        **{0: "float32", 1: "float16", 30: "bfloat16", 28: "float64"},
        **{24: "int8", 25: "int16", 26: "int32", 27: "int64"},
    }
)
# Elements and bytes of a block.
_BLOCKS: Mapping[int, tuple[int, int]] = MappingProxyType(
    {
        **{2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40)},
        **{10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210)},
        **{15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50)},
        **{20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 29: (256, 56)},
        **{34: (256, 54), 35: (256, 66), 39: (32, 17)},
    }
)
DIMENSIONS_MAX = 4
_ELEMENTS_MAX = 1 << 60


def ggml_range(
    name: str, number: int, dimensions: Sequence[int], file: str, offset: int
) -> TensorRange | None:
    """The tensor of a type at ``offset``. ``dimensions`` are as ggml has them, the fastest first.

    None where the type is of a later release, or has no such shape.
    """
    shape = tuple(reversed(dimensions))
    if not 0 < math.prod(shape) <= _ELEMENTS_MAX:
        return None
    dtype = _PLAIN.get(number)
    if dtype is None:
        elements, block_bytes = _BLOCKS.get(number, (0, 0))
        if not elements or not shape or shape[-1] % elements:
            return None
        dtype, shape = "uint8", (*shape[:-1], shape[-1] // elements, block_bytes)
    return TensorRange(
        name=name,
        dtype=dtype,
        shape=shape,
        file=file,
        offset=offset,
        length=packed_bytes(dtype, shape),
    )
