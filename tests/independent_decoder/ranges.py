"""Ranges of a source file with strides, after "Predictions" of FORMAT.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.independent_decoder.reading import BEYOND, Reader, need


class Range:
    """Bytes of one source file: runs at an offset and, with dimensions, at strides from it."""

    def __init__(self, reader: Reader, sources: Sequence[bytes]) -> None:
        number, self.offset, self.run = reader.varint(), reader.varint(), reader.varint()
        need(number < len(sources), "source file of a range")
        need(self.run >= 1, "run bytes of a range")
        self.source = sources[number]
        dimensions = reader.varint()
        need(dimensions <= 8, "dimensions of a range")
        self.dimensions = [(reader.varint(), reader.zigzag()) for _ in range(dimensions)]
        self.bytes, low, high = self.run, self.offset, self.offset + self.run
        for count, stride in self.dimensions:
            need(count >= 1, "a range without bytes")
            self.bytes *= count
            reach = (count - 1) * stride
            low, high = low + min(reach, 0), high + max(reach, 0)
        need(self.bytes < BEYOND, "a range is too long")
        inner = 0
        for size, count in sorted((abs(stride), count) for count, stride in self.dimensions):
            if count > 1 and size:
                need(size > inner, "strides of a range are not nested")
                inner += (count - 1) * size
        self.span = high - low
        need(low >= 0 and high <= len(self.source), "a range lies outside of its file")

    def work(self, first: int, end: int) -> int:
        """Of reading a part that is not empty."""
        if not self.dimensions:
            return 1
        return min((end - 1) // self.run - first // self.run + 1, -(-self.span // 16384))

    def read(self, first: int, end: int) -> bytes:
        """Of the bytes that the range yields, those from ``first`` to before ``end``."""
        if not self.dimensions:
            return self.source[self.offset + first : self.offset + end]
        index = np.arange(first, end, dtype=np.int64)
        at = self.offset + index % self.run
        index //= self.run
        for count, stride in reversed(self.dimensions):
            # A dimension of one index may have a stride of any size.
            at += index % count * (stride if count > 1 else 0)
            index //= count
        return np.frombuffer(self.source, np.uint8)[at].tobytes()
