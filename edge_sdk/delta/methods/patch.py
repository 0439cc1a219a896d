"""``patch``: many copies, changed ones too, with new bytes between them: all that is new is
compressed together, with windows of the source or of the target so far before it. Source:
FORMAT.md, "patch"."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edge_sdk.base import CHUNK_BYTES
from edge_sdk.delta.frames import Bytes, Effort, Packer
from edge_sdk.delta.methods.contract import DecodeContext
from edge_sdk.delta.methods.copy import copied
from edge_sdk.delta.varint import Cursor, put_signed, put_varint, varints

NEW_BYTES_MAX = CHUNK_BYTES
OPERATIONS_BYTES_MAX = 64 << 10
WINDOWS_MAX = 64
WINDOWS_BYTES_MAX = CHUNK_BYTES
_OPERATIONS_ANYHOW = 16
_OPERATION_BYTES = 16
_NEEDED_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """So many literal bytes; then, from ``address`` on, ``changed`` bytes to which differences
    are added, and ``copied`` bytes as they are."""

    literal: int = 0
    changed: int = 0
    copied: int = 0
    address: int = 0

    @property
    def referred(self) -> int:
        return self.changed + self.copied

    @property
    def end(self) -> int:
        """The address behind what it refers to."""
        return self.address + self.referred


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """What a patch brings along: operations, and the bytes that they take, in their order."""

    operations: Sequence[Operation]
    literals: Bytes
    differences: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Bytes that new ones are likely to be like."""

    address: int
    length: int

    @property
    def end(self) -> int:
        return self.address + self.length


class Patch:
    number = 3
    name = "patch"
    spans_chunks = True
    takes_code = False

    def memory_bytes(self, length: int, body_bytes: int) -> int:
        return body_bytes + _NEEDED_BYTES

    def encode(
        self,
        new: New,
        windows: Sequence[Window],
        dictionary: bytes,
        *,
        position: int,
        packer: Packer,
        effort: Effort,
    ) -> bytes:
        """The body behind the place, which is at ``position`` of the target; ``dictionary`` is
        what the windows hold."""
        out = bytearray(varints(len(windows)))
        expected = position
        for window in windows:
            put_signed(out, window.address - expected)
            put_varint(out, window.length)
            expected = window.end
        operations = put_operations(new.operations, position)
        out += varints(len(operations), len(new.literals) + len(new.differences))
        parts = [new.literals, bytes(new.differences) + operations]
        return bytes(out) + packer.pack_parts([one for one in parts if one], effort, dictionary)

    def decode(
        self, body: Cursor, length: int, skip: int, context: DecodeContext
    ) -> Iterator[Bytes]:
        yield from _made(open_patch(body, length, context), skip, context)


def open_patch(body: Cursor, length: int, context: DecodeContext) -> New:
    """What a record of ``length`` bytes brings along; ``body`` stands behind the place.

    Raises: DeltaError, WrongSourceError.
    """
    windows = _parse_windows(body, context.position)
    operations_bytes, new_bytes = body.varint(), body.varint()
    if operations_bytes > OPERATIONS_BYTES_MAX or new_bytes > NEW_BYTES_MAX:
        raise body.error("holds more operations or new bytes than one may")
    dictionary = b"".join(context.read(one.address, one.length) for one in windows)
    content = memoryview(
        context.unpacker.unpack(body.rest(), new_bytes + operations_bytes, dictionary)
    )
    cursor = Cursor(content[new_bytes:], "a patch")
    operations = _parse_operations(cursor, context.position, operations_max(length))
    literal = sum(one.literal for one in operations)
    changed = sum(one.changed for one in operations)
    copied_bytes = sum(one.copied for one in operations)
    if literal + changed + copied_bytes != length or literal + changed != new_bytes:
        raise body.error("does not make the bytes that it claims")
    return New(
        operations=operations,
        literals=content[:literal],
        differences=content[literal:new_bytes],
    )


def operations_max(length: int) -> int:
    """Of a record that makes so many bytes: each takes time."""
    return _OPERATIONS_ANYHOW + length // _OPERATION_BYTES


def put_operations(operations: Sequence[Operation], position: int) -> bytes:
    """As they stand in the frame."""
    out = bytearray()
    expected = position
    for one in operations:
        out += varints(one.literal, one.changed, one.copied)
        if one.referred:
            put_signed(out, one.address - expected - one.literal)
            expected = one.end
    return bytes(out)


def _parse_operations(cursor: Cursor, position: int, count_max: int) -> list[Operation]:
    operations: list[Operation] = []
    expected = position
    while len(cursor):
        if len(operations) == count_max:
            raise cursor.error(f"has more than {count_max} operations: too many for so few bytes")
        literal, changed, copied_bytes = cursor.varint(), cursor.varint(), cursor.varint()
        address = 0
        if changed + copied_bytes:
            address = expected + literal + cursor.signed()
            expected = address + changed + copied_bytes
        elif not literal or len(cursor):
            raise cursor.error("has an operation that refers to nothing")
        if address < 0:
            raise cursor.error("refers to bytes before the first of the source")
        operations.append(
            Operation(literal=literal, changed=changed, copied=copied_bytes, address=address)
        )
    return operations


def _parse_windows(cursor: Cursor, position: int) -> list[Window]:
    count = cursor.varint()
    if count > WINDOWS_MAX:
        raise cursor.error(f"has {count} windows: too many")
    windows = []
    expected = position
    for _ in range(count):
        window = Window(address=expected + cursor.signed(), length=cursor.varint())
        if window.address < 0 or not window.length:
            raise cursor.error("has a window of no byte, or before the first of the source")
        expected = window.end
        windows.append(window)
    total = sum(window.length for window in windows)
    if total > WINDOWS_BYTES_MAX:
        raise cursor.error(f"wants windows of {total} bytes: too many")
    return windows


def _made(new: New, skip: int, context: DecodeContext) -> Iterator[Bytes]:
    literals, differences = memoryview(new.literals), memoryview(new.differences)
    for one in new.operations:
        yield literals[min(skip, one.literal) : one.literal]
        literals = literals[one.literal :]
        skip = max(0, skip - one.literal)
        if skip < one.changed:
            before = context.read(one.address, one.changed)
            yield _added(before, differences[: one.changed])[skip:]
        differences = differences[one.changed :]
        skip = max(0, skip - one.changed)
        if skip < one.copied:
            yield from copied(context, one.address + one.changed, one.copied, skip)
        skip = max(0, skip - one.copied)


def _added(before: Bytes, differences: Bytes) -> bytes:
    """Byte for byte, modulo 256."""
    return (np.frombuffer(before, np.uint8) + np.frombuffer(differences, np.uint8)).tobytes()
