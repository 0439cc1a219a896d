"""The numeric coder: code tables, and streams of elements coded with them.

The format is FORMAT.md, "Code tables" and "Streams". Two backends make and read the same
bytes: the kernel, compiled where the package was built with a C compiler, and its twin in
Python. ``EDGE_DELTA_KERNEL`` in the environment decides when this is imported: ``auto``
(the default: the kernel where it is), ``require`` (or the import fails), ``skip``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.coder import twin
from edge_sdk.delta.coder.tables import CodeTable
from edge_sdk.delta.numeric import Bits, ElementKind

_U8 = NDArray[np.uint8]
_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]
Bytes = bytes | bytearray | memoryview

__all__ = ["KERNEL", "decode", "encode", "histogram", "levels", "scales"]


def _backend(choice: str) -> ModuleType:
    if choice not in {"auto", "require", "skip"}:
        raise ImportError(f"EDGE_DELTA_KERNEL is {choice!r}: auto, require or skip")
    if choice == "skip":
        return twin
    try:
        return import_module("edge_sdk.delta.coder.kernel")
    except ImportError:
        if choice == "require":
            raise
        return twin


_chosen = _backend(os.environ.get("EDGE_DELTA_KERNEL", "auto"))

KERNEL: str = "numpy" if _chosen is twin else "c"
scales: Callable[[ElementKind, Bits, Bits], tuple[_U64, _U64]] = _chosen.scales
levels: Callable[[ElementKind, Bits, Bits, _U32], _U8] = _chosen.levels
histogram: Callable[[CodeTable, Bits | None, Bits, _U8 | None], _U32] = _chosen.histogram
encode: Callable[[CodeTable, Bits | None, Bits, _U8 | None, int], bytes | None] = _chosen.encode
decode: Callable[[CodeTable, Bits | None, int, int, Bytes], Bits] = _chosen.decode
