"""Value map 5, "low rank", after "Value maps" of FORMAT.md."""

from __future__ import annotations

import numpy as np

from tests.independent_decoder.floats import FLOAT32, FLOAT64, FLOATS
from tests.independent_decoder.leans import Made
from tests.independent_decoder.reading import Reader, need
from tests.independent_decoder.value_maps import (
    OneFromOne,
    add,
    as_float32,
    cast_to,
    multiply,
    rounded_to,
)

LOW_RANK = 5
COLUMNS_MAX = 65536
RANK_MAX = 32
FACTORS_MAX = 262144
WEIGHTS_MAX = 1024


class FactorBits:
    """Packed bits of factors; the first bit is the lowest of the first byte."""

    def __init__(self, data: bytes) -> None:
        self.bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        self.ones = np.flatnonzero(self.bits)
        self.at = 0

    def numbers(self, count: int, width: int) -> np.ndarray:
        """So many numbers of so many bits, the lowest bit of each first."""
        end = self.at + count * width
        need(end <= len(self.bits), "too few bits")
        rows = self.bits[self.at : end].reshape(count, width).astype(np.int64)
        self.at = end
        return (rows << np.arange(width)).sum(axis=1)

    def number(self, width: int) -> int:
        return int(self.numbers(1, width)[0])

    def unary(self, count: int) -> np.ndarray:
        """So many numbers, each as so many zero bits and a one."""
        first = int(np.searchsorted(self.ones, self.at))
        places = self.ones[first : first + count]
        need(len(places) == count, "too few bits")
        zeros = np.diff(places, prepend=self.at - 1) - 1
        self.at = int(places[-1]) + 1
        return zeros

    def side(self, count: int) -> np.ndarray:
        """The factors of one side of one component."""
        low = self.number(3)
        folded = self.numbers(count, low)
        folded += self.unary(count) << low
        need(bool((folded < 256).all()), "a factor is too large")
        bits = [width * count + int((folded >> width).sum()) for width in range(8)]
        need(low == bits.index(min(bits)), "factors could take fewer bits")
        return np.where(folded % 2 == 0, folded // 2, -((folded + 1) // 2))

    def end(self) -> None:
        left = self.bits[self.at :]
        need(len(left) < 8 and not left.any(), "bits left over")


class LowRank(OneFromOne):
    """A matrix to which one of low rank is added, each times a number."""

    def __init__(self, parameters: bytes, total: int) -> None:
        reader = Reader(parameters)
        super().__init__(LOW_RANK, reader.varint(), reader.varint(), total)
        need(FLOAT64 not in (self.source, self.target), "a kind of low rank")
        whole = self.source not in FLOATS
        need(self.source == self.target if whole else self.target in FLOATS, "kinds of low rank")
        rows, self.columns, rank = reader.varint(), reader.varint(), reader.varint()
        need(rows >= 1 and 1 <= self.columns <= COLUMNS_MAX, "rows and columns")
        need(1 <= rank <= RANK_MAX, "rank")
        need(rank * (rows + self.columns) <= FACTORS_MAX, "rank times rows and columns")
        need(total == rows * self.columns * self.source_bytes, "numbers of low rank")
        self.gain, self.step = (np.frombuffer(reader.take(4), "<f4") for _ in range(2))
        bits = FactorBits(reader.rest())
        self.components = []
        for _ in range(rank):
            weight = 1 << bits.number(4)
            self.components.append((weight, bits.side(rows), bits.side(self.columns)))
        bits.end()
        need(sum(weight for weight, _, _ in self.components) <= WEIGHTS_MAX, "weights")

    def apply(self, x: np.ndarray, first: int) -> Made:
        row, column = np.divmod(np.arange(first, first + len(x), dtype=np.int64), self.columns)
        sums = np.zeros(len(x), np.int64)
        for weight, left, right in self.components:
            sums += weight * left[row] * right[column]
        scaled = multiply(as_float32(x, self.source), self.gain).view(np.float32)
        moves = multiply(sums.astype(np.float32), self.step).view(np.float32)
        y = add(scaled, moves)
        if self.target in FLOATS:
            return cast_to(self.target, y, FLOAT32)
        return rounded_to(self.target, y.view(np.float32), np.int64(0))
