"""The numeric coder: code tables, and streams of elements coded with them.

The format is FORMAT.md, "Code tables" and "Streams". Two backends make and read the same
bytes: the kernel, compiled where the package was built with a C compiler, and its twin in
Python. ``EDGE_DELTA_KERNEL`` in the environment decides when this is imported: ``auto``
(the default: the kernel where it is), ``require`` (or the import fails), ``skip``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.coder import tables, twin
from edge_sdk.delta.coder.tables import DIFFERENCE, UNREFLECTED, CodeTable
from edge_sdk.delta.numeric import Bits, ElementKind, mirrored
from edge_sdk.delta.varint import Cursor

_U8 = NDArray[np.uint8]
_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]
# Mirroring takes the memory of some copies of so many elements.
_PIECE = 1 << 15
Bytes = bytes | bytearray | memoryview

Factors = tuple[tuple[int, ...], bytes, bytes]

__all__ = ["KERNEL", "decode", "encode", "factors", "histogram", "levels", "parse", "scales"]


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
# Only the kernel's are there.
_parse: Callable[[Bytes], CodeTable | None] | None = getattr(_chosen, "parse", None)
_factors: Callable[[Bytes, int, int, int], Factors | None] | None = getattr(
    _chosen, "factors", None
)


def parse(cursor: Cursor) -> CodeTable:
    """``tables.parse``, which also says what is wrong where the kernel refuses a code table."""
    start = cursor.position
    table = _parse(cursor.rest()) if _parse is not None else None
    if table is not None:
        return table
    cursor.position = start
    return tables.parse(cursor)


def factors(bits: Bytes, rows: int, columns: int, rank: int) -> Factors | None:
    """Shifts, left and right factors of a map of low rank, as bytes of int8; None where the
    caller has to look at the bits itself: without a kernel, or where it refuses them."""
    return _factors(bits, rows, columns, rank) if _factors is not None else None


def histogram(table: CodeTable, source: Bits | None, target: Bits, levels: _U8 | None) -> _U32:
    """How often each table is asked for each symbol, of shape (tables, 512); symbols from 511
    on are counted there."""
    counts: _U32 = _chosen.histogram(*_reflected(table, source, target), levels)
    return counts


def encode(
    table: CodeTable, source: Bits | None, target: Bits, levels: _U8 | None, lanes: int
) -> bytes | None:
    """The stream; None where a symbol has no frequency."""
    stream: bytes | None = _chosen.encode(*_reflected(table, source, target), levels, lanes)
    return stream


def decode(table: CodeTable, source: Bits | None, lanes: int, stream: Bytes, into: Bits) -> None:
    """Fills the memory of ``into`` with elements. Raises: DeltaError."""
    if table.model != UNREFLECTED:
        _chosen.decode(table, source, len(into), lanes, stream, into=into)
        return
    assert source is not None
    _chosen.decode(_with_reflection(table), source, len(into), lanes, stream, into=into)
    for at in range(0, len(into), _PIECE):
        part = slice(at, at + _PIECE)
        into[part] = mirrored(source[part], into[part], table.kind)


def _reflected(
    table: CodeTable, source: Bits | None, target: Bits
) -> tuple[CodeTable, Bits | None, Bits]:
    """The same symbols by a model that the backends know."""
    if table.model != UNREFLECTED:
        return table, source, target
    assert source is not None
    return _with_reflection(table), source, mirrored(source, target, table.kind)


@lru_cache(maxsize=16)
def _with_reflection(table: CodeTable) -> CodeTable:
    return replace(table, model=DIFFERENCE)
