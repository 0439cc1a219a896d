"""Predictions: what a table record says. Source: FORMAT.md, "Predictions"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from threading import Lock

from edge_sdk.base import DeltaError
from edge_sdk.delta.container import FileRef
from edge_sdk.delta.low_rank import LowRank, parse_low_rank, put_low_rank
from edge_sdk.delta.strides import (
    DIMENSIONS_MAX,
    ReadSource,
    SourceRange,
    parse_range,
    put_range,
    read_sequence,
    sequence_bytes,
    sequence_work,
)
from edge_sdk.delta.text_map import TEXT_BYTES_MAX, TextMap
from edge_sdk.delta.value_maps import Operation, ValueMap, parse_value_map, put_value_map
from edge_sdk.delta.varint import VALUE_MAX, Cursor, varints

__all__ = [
    "DIMENSIONS_MAX",
    "MAP_PARAMETERS_BYTES_MAX",
    "RANGES_MAX",
    "Prediction",
    "ReadSource",
    "SourceRange",
    "parse_prediction",
    "put_prediction",
]

RANGES_MAX = 64
MAP_PARAMETERS_BYTES_MAX = 320 << 10
_ORDER_OF_RANGES = 0  # the only layout map: what strides cannot say needs none
# A record may gather its bytes by so many reads, and one more for so many bytes.
_READS_FREE = 64
_READ_FOR_BYTES = 16
# Source bytes that are gathered at once, and numbers that are mapped at once.
_GATHERED_BYTES = 2 << 20
_MAPPED_NUMBERS = 64 << 10
# Predicted bytes that are gathered for a record and those that follow it.
_AHEAD_BYTES = 3 << 20
_AHEAD_TIMES = 3

Values = ValueMap | LowRank | TextMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Source ranges one after the other, and what is done to their numbers."""

    ranges: tuple[SourceRange, ...]
    values: Values | None = None

    @property
    def length(self) -> int:
        if self.values is None:
            return sequence_bytes(self.ranges)
        return self.count * self.values.target.width_bytes

    @property
    def is_plain(self) -> bool:
        """Whether it is source bytes in their order."""
        return self.values is None and not any(one.dimensions for one in self.ranges)

    @property
    def number_bytes(self) -> int:
        """Of each of its numbers, if they have leans: those of all value maps but *text*;
        otherwise 0."""
        if self.values is None or isinstance(self.values, TextMap):
            return 0
        return self.values.target.width_bytes

    @property
    def count(self) -> int:
        """Numbers that a value map makes."""
        assert self.values is not None
        return sequence_bytes(self.ranges) // self.values.source.width_bytes

    def is_affordable(self, position: int, length: int) -> bool:
        """Whether one record may use these bytes (FORMAT.md, "Work"), if there are any."""
        if self.values is not None:
            first, end = self._places(position, length)
            width = self.values.source.width_bytes
            position, length = first * width, (end - first) * width
        work = sequence_work(self.ranges, position, length)
        return work <= _READS_FREE + length // _READ_FOR_BYTES

    def loaded(self, read_source: ReadSource) -> Prediction:
        """The same with all that its value map takes from the source, for many reads."""
        if self.values is None:
            return self
        return replace(self, values=self.values.loaded(read_source))

    def read(self, position: int, length: int, read_source: ReadSource) -> bytes | bytearray:
        """``length`` bytes from ``position`` on. Raises: DeltaError (past the end)."""
        if self.values is None:
            return read_sequence(self.ranges, position, length, read_source)
        if position + length > self.length:
            raise self.too_short()
        values = self.values.loaded(read_source)
        if isinstance(values, TextMap):
            text = read_sequence(self.ranges, 0, self.length, read_source)
            return values.apply(memoryview(text))[position : position + length]
        pieces = self._pieces(position, length, read_source)
        data = b"".join(values.apply(piece, first) for piece, first in pieces)
        skipped = position % values.target.width_bytes
        return data[skipped : skipped + length]

    def read_leaning(
        self, position: int, length: int, read_source: ReadSource
    ) -> tuple[bytes, bytes]:
        """The same of whole numbers, which are there and have leans, and these."""
        assert self.values is not None and not isinstance(self.values, TextMap)
        values = self.values.loaded(read_source)
        pieces = self._pieces(position, length, read_source)
        made = [values.apply_leaning(piece, first) for piece, first in pieces]
        return b"".join(numbers for numbers, _ in made), b"".join(leans for _, leans in made)

    def too_short(self) -> DeltaError:
        """For a record that goes on behind its last byte."""
        return DeltaError("a record uses more of a prediction than there is")

    def _places(self, position: int, length: int) -> tuple[int, int]:
        """The numbers that bytes of a mapped prediction need: the first, and the next one."""
        assert self.values is not None
        if isinstance(self.values, TextMap):
            return 0, self.length
        width = self.values.target.width_bytes
        return position // width, -(-(position + length) // width)

    def _pieces(
        self, position: int, length: int, read_source: ReadSource
    ) -> Iterator[tuple[memoryview, int]]:
        """Source bytes of the numbers that are needed, some at a time, and the first's place."""
        assert self.values is not None
        width = self.values.source.width_bytes
        first, end = self._places(position, length)
        step = _GATHERED_BYTES // width
        for start in range(first, end, step):
            count = min(step, end - start)
            gathered = read_sequence(self.ranges, start * width, count * width, read_source)
            source = memoryview(gathered)
            for at in range(0, count, _MAPPED_NUMBERS):
                yield source[at * width : (at + _MAPPED_NUMBERS) * width], start + at


class ReadAhead:
    """Reads predictions in their order. What is gathered from all over a source is gathered for
    some records at once: each time takes about as long, however little is wanted.

    Several threads may read.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._prediction: Prediction | None = None
        self._start = 0
        self._held: bytes | bytearray = b""

    def read(
        self, prediction: Prediction, position: int, length: int, read_source: ReadSource
    ) -> bytes | bytearray | memoryview:
        """``length`` bytes from ``position`` on. Raises: DeltaError (past the end)."""
        if not any(one.dimensions for one in prediction.ranges):
            return prediction.read(position, length, read_source)
        with self._lock:
            end = self._start + len(self._held)
            if prediction is not self._prediction or not self._start <= position <= end - length:
                self._prediction, self._start, self._held = None, position, b""
                ahead = min(_AHEAD_BYTES, _AHEAD_TIMES * length, prediction.length - position)
                if ahead < length or not prediction.is_affordable(position, ahead):
                    ahead = length
                self._held = prediction.read(position, ahead, read_source)
                self._prediction = prediction
            first = position - self._start
            return memoryview(self._held)[first : first + length]


def put_prediction(prediction: Prediction) -> bytes:
    """The part of a table record's body that follows its slot."""
    ranges = b"".join(put_range(one) for one in prediction.ranges)
    layout = varints(_ORDER_OF_RANGES, 0)
    return varints(len(prediction.ranges)) + ranges + layout + _put_values(prediction.values)


def _put_values(values: Values | None) -> bytes:
    if isinstance(values, TextMap):
        return varints(Operation.TEXT, 0)
    if not isinstance(values, LowRank):
        return put_value_map(values)
    parameters = put_low_rank(values)
    return varints(Operation.LOW_RANK, len(parameters)) + parameters


def parse_prediction(cursor: Cursor, sources: tuple[FileRef, ...]) -> Prediction:
    """Raises: DeltaError: malformed, past a source's end, or not supported by this release."""
    count = cursor.varint()
    if not 1 <= count <= RANGES_MAX:
        raise cursor.error(f"has {count} source ranges: 1 to {RANGES_MAX} are possible")
    ranges = tuple(parse_range(cursor, sources) for _ in range(count))
    number, parameters = _parse_map(cursor, "layout")
    if number != _ORDER_OF_RANGES:
        raise DeltaError(f"a prediction has layout map {number}: not supported by this release")
    parameters.end()
    number, parameters = _parse_map(cursor, "value")
    values: Values | None
    if number == Operation.LOW_RANK:
        values = parse_low_rank(parameters)
    elif number == Operation.TEXT:
        parameters.end()
        values = TextMap()
    else:
        values = parse_value_map(number, parameters, sources)
    cursor.end()
    prediction = Prediction(ranges=ranges, values=values)
    if max(sequence_bytes(ranges), prediction.length) > VALUE_MAX:
        raise cursor.error("predicts an impossible number of bytes")
    if values is not None and sequence_bytes(ranges) % values.source.width_bytes:
        raise cursor.error(f"ends within a number of kind {values.source.name}")
    if isinstance(values, TextMap) and prediction.length > TEXT_BYTES_MAX:
        raise cursor.error(f"has a text of {prediction.length} bytes; at most {TEXT_BYTES_MAX}")
    if isinstance(values, LowRank) and values.count != prediction.count:
        raise cursor.error(f"has {prediction.count} numbers; its map has {values.count}")
    return prediction


def _parse_map(cursor: Cursor, what: str) -> tuple[int, Cursor]:
    number, parameters_bytes = cursor.varint(), cursor.varint()
    if parameters_bytes > MAP_PARAMETERS_BYTES_MAX:
        raise cursor.error(f"has too long parameters of its {what} map")
    return number, Cursor(cursor.take(parameters_bytes), f"a prediction's {what} map")
