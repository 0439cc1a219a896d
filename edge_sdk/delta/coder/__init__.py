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
from edge_sdk.delta.coder.leaning import (
    Leans,
    standing_in,
    standing_source,
    standing_target,
    target_of,
)
from edge_sdk.delta.coder.tables import DIFFERENCE, LEANING, UNREFLECTED, CodeTable
from edge_sdk.delta.numeric import Bits, ElementKind, mirrored
from edge_sdk.delta.varint import Cursor

_U8 = NDArray[np.uint8]
_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]
# What is done here takes the memory of some copies of so many elements.
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
    on are counted there. Elements with leans are counted as what stands in for them."""
    counts: _U32 = _chosen.histogram(*_known(table, source, target), levels)
    return counts


def encode(
    table: CodeTable,
    source: Bits | None,
    target: Bits,
    levels: _U8 | None,
    lanes: int,
    *,
    leans: Leans | None = None,
) -> bytes | None:
    """The stream; None where a symbol has no frequency. ``leans``: for model ``LEANING``."""
    known = _known(table, source, target, leans)
    stream: bytes | None = _chosen.encode(*known, levels, lanes)
    return stream


def decode(
    table: CodeTable,
    source: Bits | None,
    lanes: int,
    stream: Bytes,
    into: Bits,
    *,
    leans: Leans | None = None,
) -> None:
    """Fills the memory of ``into`` with elements. Raises: DeltaError."""
    if table.model == LEANING:
        assert source is not None and leans is not None
        known = standing_in(table)
        standing = np.empty(len(into), known.kind.bits)
        before = np.empty(len(into), known.kind.bits)
        for part in _pieces(len(into)):
            before[part] = standing_source(table.kind, source[part], leans[part])
        _chosen.decode(known, before, len(into), lanes, stream, into=standing)
        for part in _pieces(len(into)):
            into[part] = target_of(
                table.kind, source[part], leans[part], before[part], standing[part]
            )
    elif table.model == UNREFLECTED:
        assert source is not None
        _chosen.decode(_with_reflection(table), source, len(into), lanes, stream, into=into)
        for part in _pieces(len(into)):
            into[part] = mirrored(source[part], into[part], table.kind)
    else:
        _chosen.decode(table, source, len(into), lanes, stream, into=into)


def _known(
    table: CodeTable, source: Bits | None, target: Bits, leans: Leans | None = None
) -> tuple[CodeTable, Bits | None, Bits]:
    """The same symbols by a model that the backends know."""
    if table.model == LEANING:
        assert source is not None and leans is not None
        before = standing_source(table.kind, source, leans)
        after = standing_target(table.kind, source, target, leans)
        return standing_in(table), before, after
    if table.model == UNREFLECTED:
        assert source is not None
        return _with_reflection(table), source, mirrored(source, target, table.kind)
    return table, source, target


@lru_cache(maxsize=16)
def _with_reflection(table: CodeTable) -> CodeTable:
    return replace(table, model=DIFFERENCE)


def _pieces(count: int) -> list[slice]:
    return [slice(at, at + _PIECE) for at in range(0, count, _PIECE)]
