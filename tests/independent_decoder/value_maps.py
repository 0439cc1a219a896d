"""Numbers of one kind made from numbers of another, after "Value maps" of FORMAT.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.independent_decoder.ranges import Range
from tests.independent_decoder.reading import BEYOND, Reader, need

FLOAT16, BFLOAT16, FLOAT32, FLOAT64 = 4, 5, 6, 7
CAST, SCALE, QUANTISE, DEQUANTISE = 1, 2, 3, 4
LIST_WORK_MAX = 256
INTEGERS = {0: np.int8, 1: np.int16, 8: np.uint8, 9: np.uint16}
FLOATS = {FLOAT16: (16, 10), BFLOAT16: (16, 7), FLOAT32: (32, 23), FLOAT64: (64, 52)}  # w, m
PATTERNS = {16: np.uint16, 32: np.uint32, 64: np.uint64}
NUMPY_FLOATS = {16: np.float16, 32: np.float32, 64: np.float64}


def kind_bytes(kind: int) -> int:
    need(kind in FLOATS or kind in INTEGERS, "an unknown kind")
    return FLOATS[kind][0] // 8 if kind in FLOATS else np.dtype(INTEGERS[kind]).itemsize


def load(raw: bytes, kind: int) -> np.ndarray:
    """Bit patterns of floats, or integers."""
    numbers = PATTERNS[FLOATS[kind][0]] if kind in FLOATS else INTEGERS[kind]
    return np.frombuffer(raw, np.dtype(numbers).newbyteorder("<"))


def infinity(kind: int) -> int:
    width, mantissa = FLOATS[kind]
    return ((1 << (width - 1 - mantissa)) - 1) << mantissa


def cast(bits: np.ndarray, source: int, target: int) -> np.ndarray:
    """Bit patterns of one kind of float as those of another."""
    if source == target:
        return bits
    if FLOAT32 not in (source, target):
        return cast(cast(bits, source, FLOAT32), FLOAT32, target)
    width = FLOATS[source][0]
    if source == BFLOAT16:
        made = bits.astype(np.uint32) << np.uint32(16)
    elif target == BFLOAT16:
        wide = bits.astype(np.uint64)
        odd = (wide >> np.uint64(16)) & np.uint64(1)
        made = ((wide + np.uint64(0x7FFF) + odd) >> np.uint64(16)).astype(np.uint16)
    else:
        with np.errstate(all="ignore"):
            floats = bits.view(NUMPY_FLOATS[width]).astype(NUMPY_FLOATS[FLOATS[target][0]])
        made = floats.view(PATTERNS[FLOATS[target][0]])
    nan = (bits & bits.dtype.type((1 << (width - 1)) - 1)) > infinity(source)
    return np.where(nan, quiet(bits, source, target), made).astype(made.dtype)


def quiet(bits: np.ndarray, source: int, target: int) -> np.ndarray:
    """The NaN of another kind: sign kept, mantissa cut or filled, its highest bit set."""
    (width, mantissa), (width_to, mantissa_to) = FLOATS[source], FLOATS[target]
    old = bits.astype(np.uint64)
    sign = old >> np.uint64(width - 1) << np.uint64(width_to - 1)
    low = old & np.uint64((1 << mantissa) - 1)
    if mantissa > mantissa_to:
        low = low >> np.uint64(mantissa - mantissa_to)
    else:
        low = low << np.uint64(mantissa_to - mantissa)
    return sign | low | np.uint64(infinity(target) | 1 << (mantissa_to - 1))


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


def rounded_to(kind: int, floats: np.ndarray, zero: np.ndarray | np.int64) -> bytes:
    """The integers of ``kind`` nearest to the floats when rounded, with zero points added."""
    with np.errstate(all="ignore"):
        rounded = np.rint(np.where(np.isnan(floats), np.float32(0), floats))
    whole = np.clip(rounded, -131072, 131072).astype(np.int64) + zero
    numbers = INTEGERS[kind]
    limits = np.iinfo(numbers)
    return np.clip(whole, limits.min, limits.max).astype(f"<{np.dtype(numbers).str[1:]}").tobytes()


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
        return self.apply(load(raw, self.source), first)[inside : inside + length]

    def apply(self, x: np.ndarray, first: int) -> bytes:
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

    def apply(self, x: np.ndarray, first: int) -> bytes:
        if self.number == CAST:
            return cast(x, self.source, self.target).tobytes()
        index = np.arange(first, first + len(x), dtype=np.int64)
        channel = index // min(self.inner, BEYOND - 1) % self.channels
        if self.number == SCALE and self.source == self.target == FLOAT64:
            factor = cast(self.factors, self.factor_kind, FLOAT64)[channel]
            return multiply(x.view(np.float64), factor.view(np.float64)).tobytes()
        factor = cast(self.factors, self.factor_kind, FLOAT32)[channel].view(np.float32)
        if self.number == DEQUANTISE:
            floats = (x.astype(np.int64) - self.zeros[channel]).astype(np.float32)
        else:
            floats = as_float32(x, self.source)
        if self.number == QUANTISE:
            with np.errstate(all="ignore"):
                return rounded_to(self.target, floats / factor, self.zeros[channel])
        return cast(multiply(floats, factor), FLOAT32, self.target).tobytes()
