"""Predictions: bytes made from source bytes, after "Predictions" of FORMAT.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.independent_decoder.low_rank import LOW_RANK, LowRank
from tests.independent_decoder.ranges import Range
from tests.independent_decoder.reading import BEYOND, Reader, need
from tests.independent_decoder.texts import TEXT, Text
from tests.independent_decoder.value_maps import OneFromOne, ValueMap

PARAMETERS_MAX = 320 << 10


class Prediction:
    """The body of a table record for slots 0 to 7."""

    def __init__(self, data: bytes, sources: Sequence[bytes], maps: bool) -> None:
        reader = Reader(data)
        count = reader.varint()
        need(1 <= count <= 64, "number of ranges")
        self.ranges = [Range(reader, sources) for _ in range(count)]
        total = sum(one.bytes for one in self.ranges)
        need(total < BEYOND, "a prediction is too long")
        layout, layout_parameters = reader.varint(), self._parameters(reader)
        need(layout == 0, "not supported: layout map")
        need(layout_parameters == b"", "parameters of layout map 0")
        number, parameters = reader.varint(), self._parameters(reader)
        reader.end("a prediction")
        plain = number == 0 and not any(one.dimensions for one in self.ranges)
        need(maps or plain, "a prediction is not plain")
        self.map = value_map(number, parameters, sources, total)
        self.length = self.map.length if self.map else total

    @staticmethod
    def _parameters(reader: Reader) -> bytes:
        length = reader.varint()
        need(length <= PARAMETERS_MAX, "parameters are too long")
        return reader.take(length)

    def read(self, position: int, length: int) -> bytes:
        need(position + length <= self.length, "outside of a prediction")
        if self.map is None:
            return self._source_bytes(position, position + length)
        raw = self._source_bytes(*self.map.takes(position, length))
        return self.map.part(raw, position, length)

    def read_leaning(
        self, position: int, length: int, phase: int, width_bytes: int
    ) -> tuple[bytes, np.ndarray]:
        """What ``read`` gives, and the lean of each whole number from the byte ``phase`` on."""
        need(position + length <= self.length, "outside of a prediction")
        need(isinstance(self.map, OneFromOne), "a prediction without leans")
        assert isinstance(self.map, OneFromOne)
        need(self.map.target_bytes == width_bytes, "leans of another width")
        number, inside = divmod(position + phase, width_bytes)
        need(inside == 0, "an element does not begin a number")
        low, high = self.map.takes(position, length)
        first = low // self.map.source_bytes
        made, leans = self.map.leaning(self._source_bytes(low, high), first)
        start, count = position - first * width_bytes, (length - phase) // width_bytes
        return made[start : start + length], leans[number - first :][:count]

    def _source_bytes(self, first: int, end: int) -> bytes:
        """A part of the ranges' bytes, refused where it is too much work to gather."""
        parts, base, work = [], 0, 0
        for one in self.ranges:
            low, high = max(first - base, 0), min(end - base, one.bytes)
            if low < high:
                parts.append((one, low, high))
                work += one.work(low, high)
            base += one.bytes
        need(work <= 64 + (end - first) // 16, "work of a record")
        return b"".join(one.read(low, high) for one, low, high in parts)


def value_map(
    number: int, parameters: bytes, sources: Sequence[bytes], total: int
) -> ValueMap | LowRank | Text | None:
    """The value map of this number for ranges of ``total`` bytes; none for 0."""
    if number == 0:
        need(parameters == b"", "parameters of value map 0")
        return None
    if number == LOW_RANK:
        return LowRank(parameters, total)
    if number == TEXT:
        return Text(parameters, total)
    return ValueMap(number, parameters, sources, total)
