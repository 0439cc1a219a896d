"""Predictions: what a table record says. Source: FORMAT.md, "Predictions".

The format has room for several strided source ranges, layout maps and value maps; this
release writes and reads plain ranges one after the other, as they are (identity).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge_sdk.base import DeltaError
from edge_sdk.delta.container import FileRef
from edge_sdk.delta.varint import VALUE_MAX, Cursor, varints

RANGES_MAX = 64
DIMENSIONS_MAX = 8
MAP_PARAMETERS_BYTES_MAX = 4 << 10
IDENTITY = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRange:
    """``length`` bytes of one source file."""

    file: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Source ranges one after the other, without change."""

    ranges: tuple[SourceRange, ...]

    @property
    def length(self) -> int:
        return sum(one.length for one in self.ranges)

    def read(
        self, position: int, length: int, read_source: Callable[[int, int, int], bytes]
    ) -> bytes:
        """``length`` bytes from ``position`` on. Raises: DeltaError (past the end)."""
        if position + length > self.length:
            raise DeltaError("a record uses more of a prediction than there is")
        parts = []
        for one in self.ranges:
            if position < one.length and length:
                part = min(length, one.length - position)
                parts.append(read_source(one.file, one.offset + position, part))
                position, length = one.length, length - part
            position -= one.length
        return parts[0] if len(parts) == 1 else b"".join(parts)


def put_prediction(prediction: Prediction) -> bytes:
    """The part of a table record's body that follows its slot."""
    out = bytearray(varints(len(prediction.ranges)))
    for one in prediction.ranges:
        out += varints(one.file, one.offset, one.length, 0)
    out += varints(IDENTITY, 0, IDENTITY, 0)
    return bytes(out)


def parse_prediction(cursor: Cursor, sources: tuple[FileRef, ...]) -> Prediction:
    """Raises: DeltaError: malformed, past a source's end, or not supported by this release."""
    count = cursor.varint()
    if not 1 <= count <= RANGES_MAX:
        raise cursor.error(f"has {count} source ranges: 1 to {RANGES_MAX} are possible")
    ranges = tuple(_parse_range(cursor, sources) for _ in range(count))
    for what in ("layout", "value"):
        number, parameters_bytes = cursor.varint(), cursor.varint()
        if parameters_bytes > MAP_PARAMETERS_BYTES_MAX:
            raise cursor.error(f"has too long parameters of its {what} map")
        cursor.take(parameters_bytes)
        if number != IDENTITY:
            raise DeltaError(f"a prediction has {what} map {number}: not supported by this release")
        if parameters_bytes:
            raise cursor.error(f"gives parameters to the identity as its {what} map")
    cursor.end()
    prediction = Prediction(ranges=ranges)
    if prediction.length > VALUE_MAX:
        raise cursor.error("predicts an impossible number of bytes")
    return prediction


def _parse_range(cursor: Cursor, sources: tuple[FileRef, ...]) -> SourceRange:
    one = SourceRange(file=cursor.varint(), offset=cursor.varint(), length=cursor.varint())
    dimensions = cursor.varint()
    if dimensions > DIMENSIONS_MAX:
        raise cursor.error(f"has a source range of {dimensions} dimensions: too many")
    for _ in range(2 * dimensions):
        cursor.varint()
    if dimensions:
        raise DeltaError("a prediction has a strided source range: not supported by this release")
    if one.file >= len(sources) or one.offset + one.length > sources[one.file].size_bytes:
        raise cursor.error("predicts from bytes that no source has")
    if one.length == 0:
        raise cursor.error("has an empty source range")
    return one
