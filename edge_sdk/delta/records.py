"""Records: framing and the place that a record fills. Source: FORMAT.md, "Records"."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.base import CHUNK_BYTES, DeltaError
from edge_sdk.delta.container import CHECK_BYTES, RECORD_BODY_BYTES_MAX, check_of
from edge_sdk.delta.varint import Cursor, varints

KIND_END = 0
KIND_TABLE = 128
# Data records carry the number of their method, 1 to 127, as their kind.
METHOD_NUMBER_MAX = 127

# Kind and the longest length that is not too long: 3 groups of 7 bits.
HEAD_BYTES_MAX = 1 + 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A range of one target file."""

    file: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def crosses_chunks(self) -> bool:
        return self.offset // CHUNK_BYTES != (self.end - 1) // CHUNK_BYTES


def seal(kind: int, body: bytes) -> bytes:
    """A complete record."""
    if len(body) > RECORD_BODY_BYTES_MAX:
        raise DeltaError(f"a record of {len(body)} bytes is longer than one may be")
    record = b"".join((bytes((kind,)), varints(len(body)), body))
    return record + check_of(record)


def put_place(place: Place) -> bytes:
    """The beginning of a data record's body."""
    return varints(place.file, place.offset, place.length)


def parse_place(cursor: Cursor) -> Place:
    """Raises: DeltaError."""
    place = Place(file=cursor.varint(), offset=cursor.varint(), length=cursor.varint())
    if place.length == 0:
        raise cursor.error("makes no bytes")
    return place


def head_length(data: bytes | memoryview) -> int | None:
    """Bytes of the record that begins with ``data``; None while its length is not complete.

    ``data`` holds two bytes or more. Raises: DeltaError (a length that cannot be).
    """
    if data[-1] & 0x80:
        if len(data) >= HEAD_BYTES_MAX:
            raise DeltaError("a record claims more bytes than one may have")
        return None
    cursor = Cursor(data[1:], "a record's length")
    body_bytes = cursor.varint()
    if body_bytes > RECORD_BODY_BYTES_MAX:
        raise DeltaError(f"a record claims {body_bytes} bytes: more than one may have")
    return len(data) + body_bytes + CHECK_BYTES


def open_record(record: bytes | memoryview, offset: int) -> tuple[int, Cursor]:
    """Kind and body of a complete record; ``offset`` names it in errors. Raises: DeltaError."""
    body_end = len(record) - CHECK_BYTES
    view = memoryview(record)
    if check_of(view[:body_end]) != bytes(view[body_end:]):
        raise DeltaError(
            f"the record at byte {offset} of the records is damaged: its check differs",
            offset=offset,
        )
    head = Cursor(view[1:body_end], "a record")
    body = head.take(head.varint())
    head.end()
    return record[0], Cursor(body, f"the record at byte {offset} of the records")
