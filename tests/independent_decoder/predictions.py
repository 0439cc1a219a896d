"""Predictions: bytes made from source bytes, after "Predictions" of FORMAT.md."""

from __future__ import annotations

from collections.abc import Sequence

from tests.independent_decoder.low_rank import LowRank
from tests.independent_decoder.ranges import Range
from tests.independent_decoder.reading import BEYOND, Reader, need
from tests.independent_decoder.value_maps import ValueMap


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
        self.map: ValueMap | LowRank | None = None
        self.length, self.is_text = total, False
        if number == 0:
            need(parameters == b"", "parameters of value map 0")
            return
        if number == 6:
            need(parameters == b"" and total <= 1 << 20, "a text")
            self.is_text = True
            return
        self.map = LowRank(parameters) if number == 5 else ValueMap(number, parameters, sources)
        need(total % self.map.source_bytes == 0, "ranges end in a number")
        self.length = total // self.map.source_bytes * self.map.target_bytes
        need(self.length < BEYOND, "a prediction is too long")
        if isinstance(self.map, LowRank):
            need(self.map.count * self.map.source_bytes == total, "rows and columns of a map")

    @staticmethod
    def _parameters(reader: Reader) -> bytes:
        length = reader.varint()
        need(length <= 327680, "parameters are too long")
        return reader.take(length)

    def read(self, position: int, length: int) -> bytes:
        need(position + length <= self.length, "outside of a prediction")
        if self.is_text:
            return text_bytes(self._source_bytes(0, self.length))[position:][:length]
        if self.map is None:
            return self._source_bytes(position, position + length)
        source, target = self.map.source_bytes, self.map.target_bytes
        first, end = position // target, -(-(position + length) // target)
        made = self.map.apply(self._source_bytes(first * source, end * source), first)
        return made[position - first * target :][:length]

    def _source_bytes(self, first: int, end: int) -> bytes:
        made, base, work = [], 0, 0
        for one in self.ranges:
            low, high = max(first - base, 0), min(end - base, one.bytes)
            if low < high:
                work += one.work(low, high)
                made.append(one.read(low, high))
            base += one.bytes
        need(work <= 64 + (end - first) // 16, "too much work")
        return b"".join(made)


def text_bytes(text: bytes) -> bytes:
    """The bytes that characters stand for, and zeros up to as many."""
    made, at = bytearray(), 0
    while at < len(text):
        two = text[at] in (194, 195) and at + 1 < len(text) and 128 <= text[at + 1] <= 191
        made.append(text[at + 1] + 64 * (text[at] - 194) if two else text[at])
        at += 1 + two
    return bytes(made).ljust(len(text), b"\0")
