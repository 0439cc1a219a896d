"""FlatBuffers tables, read in place by hand; every offset is checked before it is followed.

A hostile file can point from many places at one table or one vector, so that little becomes
much: whoever reads charges what it visits, and the reader stops where it is more than the
file can honestly hold. Source: https://flatbuffers.dev/internals/
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from edge_sdk.formats.model_file import ModelFile

_I8 = struct.Struct("<b")
_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

VISITS_MAX = 1_000_000
_COPIED_PER_BYTE = 4


class Table(NamedTuple):
    """``layout`` (the vtable) says where each of ``slots`` fields lies, counted from ``start``."""

    start: int
    size_bytes: int
    layout: int
    slots: int


class FlatBuffer:
    """A flatbuffer that begins at ``base`` of a file; all its offsets count from themselves."""

    def __init__(self, file: ModelFile, base: int = 0, visits: int | None = None) -> None:
        self.base = base
        self.visits_left = VISITS_MAX if visits is None else visits
        self._file = file
        self._data = file.data
        self._copy_left = _COPIED_PER_BYTE * file.size_bytes

    def root(self) -> Table:
        return self.table(self._follow(self.base))

    def table(self, start: int) -> Table:
        """Raises: FormatError."""
        self.visits_left -= 1
        if self.visits_left < 0:
            raise self._file.damaged(start, "more tables than any model has; refused")
        layout = start - self._number(_I32, start)
        layout_bytes = self._number(_U16, layout)
        size = self._number(_U16, layout + 2)
        if layout_bytes < 4 or layout_bytes % 2 or size < 4:
            raise self._file.damaged(layout, "not the layout of a table")
        self._check(layout, layout_bytes)
        self._check(start, size)
        return Table(start, size, layout, (layout_bytes - 4) // 2)

    def i8(self, table: Table, slot: int) -> int:
        return self._field(_I8, table, slot)

    def u32(self, table: Table, slot: int) -> int:
        return self._field(_U32, table, slot)

    def u64(self, table: Table, slot: int) -> int:
        return self._field(_U64, table, slot)

    def child(self, table: Table, slot: int) -> Table | None:
        position = self._position(table, slot, 4)
        return self.table(self._follow(position)) if position else None

    def vector(self, table: Table, slot: int, item_bytes: int) -> tuple[int, int]:
        """Where the items of a vector begin, and how many there are; 0, 0 for no vector."""
        position = self._position(table, slot, 4)
        if not position:
            return 0, 0
        start = self._follow(position)
        count = self._number(_U32, start)
        self._check(start + 4, count * item_bytes)
        return start + 4, count

    def tables(self, table: Table, slot: int) -> Tables:
        start, count = self.vector(table, slot, 4)
        return Tables(self, start, count)

    def item(self, start: int, number: int) -> Table:
        """A table of a vector of tables that begins at ``start`` and has such a number."""
        return self.table(self._follow(start + 4 * number))

    def integers(self, table: Table, slot: int) -> tuple[int, ...] | None:
        """A vector of 32-bit numbers, copied; None where it is absent. Raises: FormatError."""
        start, count = self.vector(table, slot, 4)
        self._charge(start, 4 * count)
        held = self._data[start : start + 4 * count]
        return struct.unpack(f"<{count}i", held) if start else None

    def text(self, table: Table, slot: int) -> str:
        """A string, what is no UTF-8 in it escaped."""
        start, count = self.vector(table, slot, 1)
        self._charge(start, count)
        return self._data[start : start + count].decode("utf-8", "backslashreplace")

    def _position(self, table: Table, slot: int, width: int) -> int:
        """Where a field lies; 0 for one that is absent."""
        if slot >= table.slots:
            return 0
        offset = self._number(_U16, table.layout + 4 + 2 * slot)
        if offset == 0:
            return 0
        if offset < 4 or offset + width > table.size_bytes:
            raise self._file.damaged(table.start, f"field {slot} of a table lies outside of it")
        return table.start + offset

    def _field(self, kind: struct.Struct, table: Table, slot: int) -> int:
        position = self._position(table, slot, kind.size)
        return self._number(kind, position) if position else 0

    def _follow(self, position: int) -> int:
        target = position + self._number(_U32, position)
        if target == position:
            raise self._file.damaged(position, "an offset of nothing")
        return target

    def _number(self, kind: struct.Struct, position: int) -> int:
        self._check(position, kind.size)
        number: int = kind.unpack(self._data[position : position + kind.size])[0]
        return number

    def _check(self, start: int, length: int) -> None:
        if start < 0 or start + length > self._file.size_bytes:
            where = min(max(start, 0), self._file.size_bytes)
            raise self._file.damaged(
                where, f"truncated, or an offset out of the file: {length} bytes at {start}"
            )

    def _charge(self, start: int, count: int) -> None:
        self._copy_left -= count
        if self._copy_left < 0:
            raise self._file.damaged(start, "names and shapes of more bytes than the file has")


class Tables:
    """A vector of tables, each read when it is asked for."""

    def __init__(self, buffer: FlatBuffer, start: int, count: int) -> None:
        self._buffer = buffer
        self._start = start
        self.count = count

    def __getitem__(self, number: int) -> Table:
        """Raises: IndexError, FormatError."""
        if not 0 <= number < self.count:
            raise IndexError(number)
        return self._buffer.item(self._start, number)
