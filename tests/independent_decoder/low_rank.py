"""Value map 5 after "Value maps" of FORMAT.md: numbers with a sum of products added."""

from __future__ import annotations

import numpy as np

from tests.independent_decoder.reading import Reader, need
from tests.independent_decoder.value_maps import (
    FLOAT32,
    FLOAT64,
    FLOATS,
    INTEGERS,
    cast,
    infinity,
    kind_bytes,
    load,
)

NAN = np.array([infinity(FLOAT32) | 1 << 22], np.uint32).view(np.float32)[0]


class Bits:
    """Bits from the lowest of the first byte on."""

    def __init__(self, data: bytes) -> None:
        self.left, self.at = int.from_bytes(data, "little"), 0
        self.count = 8 * len(data)
        self.text = format(self.left, f"0{self.count}b")[::-1] if data else ""

    def number(self, bits: int) -> int:
        need(self.at + bits <= self.count, "bits of a map")
        digits = self.text[self.at : self.at + bits][::-1]
        self.at += bits
        return int(digits or "0", 2)

    def unary(self) -> int:
        one = self.text.find("1", self.at)
        need(one >= 0, "bits of a map")
        zeros, self.at = one - self.at, one + 1
        return zeros


class LowRank:
    """A value map with its parameters."""

    number = 5

    def __init__(self, parameters: bytes) -> None:
        reader = Reader(parameters)
        self.source, self.target = reader.varint(), reader.varint()
        self.source_bytes, self.target_bytes = kind_bytes(self.source), kind_bytes(self.target)
        narrow = [kind for kind in FLOATS if kind != FLOAT64]
        floats = self.source in narrow and self.target in narrow
        need(floats or (self.source in INTEGERS and self.source == self.target), "kinds of a map")
        rows, self.columns, rank = reader.varint(), reader.varint(), reader.varint()
        need(rows >= 1 and 1 <= self.columns <= 65536 and 1 <= rank <= 32, "size of a map")
        need((rows + self.columns) * rank <= 262144, "factors of a map")
        self.count = rows * self.columns
        self.gain, self.step = load(reader.take(8), FLOAT32).view(np.float32)
        bits = Bits(reader.rest())
        self.components = []
        for _ in range(rank):
            weight = 1 << bits.number(4)
            self.components.append((weight, self._side(bits, rows), self._side(bits, self.columns)))
        need(sum(weight for weight, _, _ in self.components) <= 1024, "weights of a map")
        need(bits.count - bits.at < 8, "bits behind a map")
        need(bits.number(bits.count - bits.at) == 0, "padding of a map")

    @staticmethod
    def _side(bits: Bits, count: int) -> np.ndarray:
        width = bits.number(3)
        low = [bits.number(width) for _ in range(count)]
        folded = [one + (bits.unary() << width) for one in low]
        need(max(folded) < 256, "a factor")
        lengths = [sum(b + 1 + (one >> b) for one in folded) for b in range(8)]
        need(lengths.index(min(lengths)) == width, "low bits of factors")
        return np.array([-(one + 1) // 2 if one % 2 else one // 2 for one in folded], np.int64)

    def apply(self, raw: bytes, first: int) -> bytes:
        """The target's numbers from ``first`` on, made from the bytes of the source's."""
        x = load(raw, self.source)
        place = np.arange(first, first + len(x), dtype=np.int64)
        row, column = place // self.columns, place % self.columns
        total = np.zeros(len(x), np.int64)
        for weight, left, right in self.components:
            total += weight * left[row] * right[column]
        with np.errstate(all="ignore"):
            c = self._plain(total.astype(np.float32) * self.step)
            floats = self.source in FLOATS
            wide = cast(x, self.source, FLOAT32).view(np.float32) if floats else x.astype("f4")
            y = self._plain(self._plain(wide * self.gain) + c)
            if floats:
                return cast(y.view(np.uint32), FLOAT32, self.target).tobytes()
            rounded = np.rint(np.where(np.isnan(y), np.float32(0), y))
        whole = np.clip(rounded, -131072, 131072).astype(np.int64)
        kind = INTEGERS[self.target]
        return np.clip(whole, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind).tobytes()

    @staticmethod
    def _plain(numbers: np.ndarray) -> np.ndarray:
        return np.where(np.isnan(numbers), NAN, numbers).astype(np.float32)
