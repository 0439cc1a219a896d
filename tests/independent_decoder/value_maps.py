"""Numbers of one kind made from numbers of another, after "Value maps" of FORMAT.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.independent_decoder.floats import (
    FLOAT32,
    FLOAT64,
    FLOATS,
    PATTERNS,
    cast,
    infinity,
)
from tests.independent_decoder.leans import Made, lean
from tests.independent_decoder.ranges import Range
from tests.independent_decoder.reading import BEYOND, Reader, need

CAST, SCALE, QUANTISE, DEQUANTISE = 1, 2, 3, 4
LIST_WORK_MAX = 256
INTEGERS = {0: np.int8, 1: np.int16, 8: np.uint8, 9: np.uint16}


def kind_bytes(kind: int) -> int:
    need(kind in FLOATS or kind in INTEGERS, "an unknown kind")
    return FLOATS[kind][0] // 8 if kind in FLOATS else np.dtype(INTEGERS[kind]).itemsize


def load(raw: bytes, kind: int) -> np.ndarray:
    """Bit patterns of floats, or integers."""
    numbers = PATTERNS[FLOATS[kind][0]] if kind in FLOATS else INTEGERS[kind]
    return np.frombuffer(raw, np.dtype(numbers).newbyteorder("<"))


def multiply(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The product's bit patterns; every NaN is the one that the text names."""
    with np.errstate(all="ignore"):
        return patterns(first * second)


def add(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The sum's bit patterns; every NaN is the one that the text names."""
    with np.errstate(all="ignore"):
        return patterns(first + second)


def patterns(floats: np.ndarray) -> np.ndarray:
    """The bit patterns of what an operation gave, its NaNs replaced."""
    kind = FLOAT32 if floats.itemsize == 4 else FLOAT64
    bits = floats.view(PATTERNS[8 * floats.itemsize]).copy()
    bits[np.isnan(floats)] = infinity(kind) | 1 << (FLOATS[kind][1] - 1)
    return bits


def as_float32(x: np.ndarray, kind: int) -> np.ndarray:
    """f32 of bit patterns of floats, or of integers."""
    if kind in FLOATS:
        return cast(x, kind, FLOAT32).view(np.float32)
    return x.astype(np.float32)


def rounded_to(kind: int, floats: np.ndarray, zero: np.ndarray | np.int64) -> Made:
    """The integers of ``kind`` nearest to the floats when rounded, with zero points added."""
    with np.errstate(all="ignore"):
        rounded = np.rint(np.where(np.isnan(floats), np.float32(0), floats))
    whole = np.clip(rounded, -131072, 131072).astype(np.int64) + zero
    numbers = INTEGERS[kind]
    limits = np.iinfo(numbers)
    whole = np.clip(whole, limits.min, limits.max).astype(f"<{np.dtype(numbers).str[1:]}")
    return Made(whole, kind, floats.view(np.uint32), FLOAT32)


def cast_to(kind: int, bits: np.ndarray, source: int) -> Made:
    """Floats cast at last, by way of float32 where neither kind is that."""
    if FLOAT32 not in (source, kind) and source != kind:
        bits, source = cast(bits, source, FLOAT32), FLOAT32
    return Made(cast(bits, source, kind), kind, bits, source)


class OneFromOne:
    """A value map that makes one number from one, in their order."""

    def __init__(self, number: int, source: int, target: int, total: int) -> None:
        self.number, self.source, self.target = number, source, target
        self.source_bytes, self.target_bytes = kind_bytes(source), kind_bytes(target)
        need(total % self.source_bytes == 0, "ranges end in a number")
        self.length = total // self.source_bytes * self.target_bytes
        need(self.length < BEYOND, "a prediction is too long")

    def takes(self, position: int, length: int) -> tuple[int, int]:
        """The first byte of the ranges, and the one behind the last, that a part is made from."""
        first, end = position // self.target_bytes, -(-(position + length) // self.target_bytes)
        return first * self.source_bytes, end * self.source_bytes

    def part(self, raw: bytes, position: int, length: int) -> bytes:
        """A part of the prediction, made from the bytes that it takes."""
        first, inside = divmod(position, self.target_bytes)
        made = self.apply(load(raw, self.source), first)
        return made.numbers.tobytes()[inside : inside + length]

    def leaning(self, raw: bytes, number: int) -> tuple[bytes, np.ndarray]:
        """Whole numbers from ``number`` on, and the lean of each."""
        made = self.apply(load(raw, self.source), number)
        return made.numbers.tobytes(), lean(made)

    def apply(self, x: np.ndarray, first: int) -> Made:
        """The target's numbers from number ``first`` on, made from those of the source."""
        raise NotImplementedError


class ValueMap(OneFromOne):
    """Value maps 1 to 4 with their parameters."""

    def __init__(
        self, number: int, parameters: bytes, sources: Sequence[bytes], total: int
    ) -> None:
        need(CAST <= number <= DEQUANTISE, "not supported: value map")
        reader = Reader(parameters)
        super().__init__(number, reader.varint(), reader.varint(), total)
        need((self.source in FLOATS) == (number != DEQUANTISE), "source kind of a value map")
        need((self.target in FLOATS) == (number != QUANTISE), "target kind of a value map")
        if number == CAST:
            need(self.source != self.target, "a cast to the same kind")
        else:
            self.inner, self.channels = reader.varint(), reader.varint()
            need(self.inner >= 1 and 1 <= self.channels <= 65536, "channels")
            form = reader.varint()
            self.factors, self.factor_kind = self._numbers(reader, sources, form)
            need(self.factor_kind in FLOATS, "kind of the factors")
        if number in (QUANTISE, DEQUANTISE):
            self.zeros = self._zero_points(reader, sources)
        reader.end("the parameters of a value map")

    def _numbers(
        self, reader: Reader, sources: Sequence[bytes], form: int
    ) -> tuple[np.ndarray, int]:
        """A list that is there, one number for each channel, and its kind."""
        need(form in (1, 2), "form of a list")
        kind = reader.varint()
        size = kind_bytes(kind) * self.channels
        if form == 1:
            return load(reader.take(size), kind), kind
        place = Range(reader, sources)
        need(place.bytes == size, "range of a list")
        need(place.work(0, size) <= LIST_WORK_MAX, "work of a list")
        return load(place.read(0, size), kind), kind

    def _zero_points(self, reader: Reader, sources: Sequence[bytes]) -> np.ndarray:
        form = reader.varint()
        if form == 0:
            return np.zeros(self.channels, np.int64)
        numbers, kind = self._numbers(reader, sources, form)
        need(kind in INTEGERS, "kind of the zero points")
        return numbers.astype(np.int64)

    def apply(self, x: np.ndarray, first: int) -> Made:
        if self.number == CAST:
            return cast_to(self.target, x, self.source)
        index = np.arange(first, first + len(x), dtype=np.int64)
        channel = index // min(self.inner, BEYOND - 1) % self.channels
        if self.number == SCALE and self.source == self.target == FLOAT64:
            factor = cast(self.factors, self.factor_kind, FLOAT64)[channel]
            product = multiply(x.view(np.float64), factor.view(np.float64))
            return cast_to(FLOAT64, product, FLOAT64)
        factor = cast(self.factors, self.factor_kind, FLOAT32)[channel].view(np.float32)
        if self.number == DEQUANTISE:
            floats = (x.astype(np.int64) - self.zeros[channel]).astype(np.float32)
        else:
            floats = as_float32(x, self.source)
        if self.number == QUANTISE:
            with np.errstate(all="ignore"):
                return rounded_to(self.target, floats / factor, self.zeros[channel])
        return cast_to(self.target, multiply(floats, factor), FLOAT32)
