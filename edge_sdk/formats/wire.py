"""Protocol-buffer wire format, walked in place: which field lies where, nothing decoded.

Reads a field's tag and length and steps over its bytes, so a tensor of gigabytes costs as
much as one of four bytes. Never recurses. Reads what protobuf's own parsers read: unknown
fields and known ones of another wire type are stepped over, groups are refused.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from edge_sdk.base import FormatError
from edge_sdk.formats.model_file import ModelFile

VARINT, I64, LEN, I32 = 0, 1, 2, 5

# About a microsecond each. The largest graphs have some hundred thousand; long lists of
# numbers (tree ensembles) do not count, see _run_pattern.
FIELDS_MAX = 4_000_000
NAME_BYTES_MAX = 4096
_TAG_MAX = (1 << 32) - 1
_RUN_BYTES = 1024
_RUN_FIELD_BYTES = 11  # at most, its tag being one byte


class WireError(FormatError):
    """The bytes do not follow the wire format, or are too many fields to walk."""


class Field(NamedTuple):
    """``value`` is the number of a VARINT; the content of others is ``[start, end)``."""

    tag: int
    value: int
    start: int
    end: int


def tag_of(number: int, kind: int) -> int:
    return number << 3 | kind


class Wire:
    """Walks messages of one file, counting what it costs over all of them."""

    def __init__(self, file: ModelFile, *, fields_max: int = FIELDS_MAX) -> None:
        self._file = file
        self._data = file.data
        self._fields_left = fields_max
        self._runs: dict[int, re.Pattern[bytes]] = {}

    def fields(self, start: int, end: int, wanted: frozenset[int]) -> Iterator[Field]:
        """The fields whose tag is wanted, of the message in ``[start, end)``, in order.

        Raises: WireError.
        """
        position = start
        previous = -1
        while position < end:
            field = self.field_at(position, end)
            if field.end > end:
                raise self._error(
                    position,
                    f"truncated: a field of {field.end - field.start} bytes, "
                    f"{end - field.start} are left",
                )
            if field.tag in wanted:
                yield field
                position = field.end
            elif field.tag == previous:
                position = self._skip_run(field, end)
            else:
                position = field.end
            previous = field.tag

    def field_at(self, position: int, end: int) -> Field:
        """The field whose tag is at ``position``; its content may reach beyond ``end``."""
        self._fields_left -= 1
        if self._fields_left < 0:
            raise self._error(position, "more fields than any model has; refused")
        tag, start = self.varint(position, end)
        kind = tag & 7
        if tag > _TAG_MAX or tag < 8:
            raise self._error(position, f"not a field: tag {tag}")
        if kind == LEN:
            length, start = self.varint(start, end)
            return Field(tag, 0, start, start + length)
        if kind == VARINT:
            value, after = self.varint(start, end)
            return Field(tag, value, start, after)
        if kind in (I32, I64):
            return Field(tag, 0, start, start + (4 if kind == I32 else 8))
        raise self._error(position, f"not a field: wire type {kind}")

    def varint(self, position: int, end: int) -> tuple[int, int]:
        """An unsigned number of at most 64 bits and the position after it. Raises: WireError."""
        data = self._data
        if position < end and data[position] < 0x80:
            return data[position], position + 1
        value = 0
        for number in range(min(10, end - position)):
            byte = data[position + number]
            value |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position + number + 1
        what = "a number of more than ten bytes" if end - position >= 10 else "truncated: a number"
        raise self._error(position, what)

    def varints(self, start: int, end: int, *, count_max: int) -> list[int]:
        """A packed list of numbers; at most one more than ``count_max`` of them are read."""
        values: list[int] = []
        while start < end and len(values) <= count_max:
            value, start = self.varint(start, end)
            values.append(value)
        self._fields_left -= len(values)
        return values

    def content(self, field: Field) -> bytes:
        return self._data[field.start : field.end]

    def _skip_run(self, field: Field, end: int) -> int:
        """Steps over a list of plain numbers that is written as a field for each.

        A tree ensemble has millions of them; a regular expression passes them in C.
        """
        kind = field.tag & 7
        if kind == LEN or field.tag > 0x7F:
            return field.end
        pattern = self._runs.get(field.tag)
        if pattern is None:
            pattern = self._runs[field.tag] = _run_pattern(field.tag, kind)
        at, passed, held = field.end, 0, b""
        while len(held) - passed < _RUN_FIELD_BYTES:  # as at the start, it may go on behind
            held = self._data[at : min(end, at + _RUN_BYTES)]
            run = pattern.match(held)
            passed = run.end() if run else 0
            at += passed
            if not passed:
                break
        return at

    def _error(self, offset: int, what: str) -> WireError:
        path = self._file.path
        return WireError(f"{path}: byte {offset}: {what}", file=str(path), offset=offset)


def _run_pattern(tag: int, kind: int) -> re.Pattern[bytes]:
    number = {VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]", I32: rb".{4}", I64: rb".{8}"}[kind]
    once = re.escape(bytes([tag])) + number
    return re.compile(b"(?:%s)+" % once, re.DOTALL)


def signed(value: int) -> int:
    """A 64-bit number as the signed one that its field means."""
    return value - (1 << 64) if value >> 63 else value
