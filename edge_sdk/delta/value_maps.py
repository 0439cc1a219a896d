"""Value maps: what a prediction does to the numbers of its source, to the bit.

Source: FORMAT.md, "Value maps". Every operation is one of IEEE 754, rounded to nearest even;
NaN never depends on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import DeltaError
from edge_sdk.delta.container import FileRef
from edge_sdk.delta.strides import (
    ReadSource,
    SourceRange,
    parse_range,
    put_range,
)
from edge_sdk.delta.varint import Cursor, varints

Array = NDArray[Any]
Bytes = bytes | memoryview

CHANNELS_MAX = 1 << 16
# A list may be gathered by so many reads (FORMAT.md, "Work").
_LIST_READS_MAX = 256
_CANONICAL_NAN = np.float32(np.nan)
_INTEGER_BOUND = np.float32(1 << 17)
# Leans are told apart by 15 sizes beside none, from 2**-8 of a step on.
LEAN_SIZES = 16
LEAN_BELOW = 0x80


class Operation(IntEnum):
    """Numbers of the format."""

    IDENTITY = 0
    CAST = 1
    SCALE = 2
    QUANTISE = 3
    DEQUANTISE = 4
    LOW_RANK = 5
    TEXT = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberKind:
    """How the bytes of a number are read. ``mantissa_bits`` is None for integers."""

    number: int
    name: str
    storage: str
    mantissa_bits: int | None = None

    @property
    def width_bytes(self) -> int:
        return np.dtype(self.storage).itemsize

    @property
    def is_float(self) -> bool:
        return self.mantissa_bits is not None


_KINDS = (
    NumberKind(number=0, name="int8", storage="<i1"),
    NumberKind(number=1, name="int16", storage="<i2"),
    NumberKind(number=4, name="float16", storage="<f2", mantissa_bits=10),
    NumberKind(number=5, name="bfloat16", storage="<u2", mantissa_bits=7),
    NumberKind(number=6, name="float32", storage="<f4", mantissa_bits=23),
    NumberKind(number=7, name="float64", storage="<f8", mantissa_bits=52),
    NumberKind(number=8, name="uint8", storage="<u1"),
    NumberKind(number=9, name="uint16", storage="<u2"),
)
_BY_NUMBER = {kind.number: kind for kind in _KINDS}
NUMBER_KINDS = {kind.name: kind for kind in _KINDS}
_FLOAT32 = NUMBER_KINDS["float32"]
_FLOAT64 = NUMBER_KINDS["float64"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberList:
    """One number for each channel: their bytes, or the source range that holds them."""

    kind: NumberKind
    content: bytes | SourceRange

    def loaded(self, read_source: ReadSource) -> NumberList:
        """With the numbers themselves."""
        held = self.content
        if not isinstance(held, SourceRange):
            return self
        return replace(self, content=bytes(held.read(0, held.total_bytes, read_source)))

    def cast(self, kind: NumberKind) -> NumberList:
        """Floats, loaded, as those of another kind."""
        if kind == self.kind:
            return self
        with np.errstate(all="ignore"):
            return NumberList(kind=kind, content=cast(self.values, self.kind, kind).tobytes())

    @property
    def values(self) -> Array:
        assert not isinstance(self.content, SourceRange), "loaded first"
        return np.frombuffer(self.content, self.kind.storage)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueMap:
    """An operation on each number. Number i belongs to channel ``i // inner % channels``."""

    operation: Operation
    source: NumberKind
    target: NumberKind
    inner: int = 1
    channels: int = 1
    factors: NumberList | None = None
    zeros: NumberList | None = None

    def loaded(self, read_source: ReadSource) -> ValueMap:
        """With all numbers of its lists, and of the kind that is used; only such is applied."""
        if self.factors is None:
            return self
        zeros = self.zeros.loaded(read_source) if self.zeros is not None else None
        factors = self.factors.loaded(read_source).cast(self._factor_kind)
        return replace(self, factors=factors, zeros=zeros)

    def apply(self, data: Bytes, first: int) -> bytes:
        """The bytes of the numbers ``first`` and on, whose source bytes are ``data``."""
        return self._unrounded(data, first).rounded(self.target).tobytes()

    def apply_leaning(self, data: Bytes, first: int) -> tuple[bytes, bytes]:
        """The same, and the lean of each number."""
        exact = self._unrounded(data, first)
        return exact.rounded(self.target).tobytes(), exact.leans(self.target).tobytes()

    def apply_at(self, numbers: Array, places: Array) -> Array:
        """What the numbers at these places become."""
        return self._unrounded_at(numbers, places).rounded(self.target)

    def _unrounded(self, data: Bytes, first: int) -> Unrounded:
        numbers = np.frombuffer(data, self.source.storage)
        return self._unrounded_at(numbers, np.arange(first, first + len(numbers)))

    def _unrounded_at(self, numbers: Array, places: Array) -> Unrounded:
        with np.errstate(all="ignore"):
            if self.operation == Operation.CAST:
                last = self.source if _FLOAT32 in (self.source, self.target) else _FLOAT32
                return Unrounded(numbers=cast(numbers, self.source, last), kind=last)
            channel = places // self.inner % self.channels
            assert self.factors is not None
            wide = self._factor_kind
            factors = self.factors.cast(wide).values[channel]
            if self.operation == Operation.SCALE:
                widened = cast(numbers, self.source, wide)
                return Unrounded(numbers=_product(widened, factors), kind=wide)
            zeros = self._zeros(channel)
            if self.operation == Operation.QUANTISE:
                widened = cast(numbers, self.source, _FLOAT32)
                return Unrounded(numbers=widened / factors, kind=_FLOAT32, zeros=zeros)
            steps = (numbers.astype(np.int32) - zeros).astype("<f4")
            return Unrounded(numbers=_product(steps, factors), kind=_FLOAT32)

    @property
    def _factor_kind(self) -> NumberKind:
        """What factors are cast to before they are used."""
        wide = self.source == self.target == _FLOAT64
        return _FLOAT64 if wide else _FLOAT32

    def _zeros(self, channel: Array) -> Array:
        if self.zeros is None:
            return np.zeros(len(channel), np.int32)
        return self.zeros.values[channel].astype(np.int32)


def cast(numbers: Array, source: NumberKind, target: NumberKind) -> Array:
    """Floats of one width as another; between 16 and 64 bits by way of float32."""
    if source == target:
        return numbers
    if _FLOAT32 not in (source, target):
        return cast(cast(numbers, source, _FLOAT32), _FLOAT32, target)
    if source.name == "bfloat16":
        wide = numbers.astype("<u4")
        wide <<= np.uint32(16)
        cast_numbers: Array = wide.view("<f4")
    elif target.name == "bfloat16":
        bits = numbers.view("<u4")
        wide = bits >> np.uint32(16)  # and from here on in place: memory takes most of the time
        wide &= np.uint32(1)
        wide += np.uint32(0x7FFF)
        wide += bits
        wide >>= np.uint32(16)
        cast_numbers = wide.astype("<u2")
    else:
        cast_numbers = numbers.astype(target.storage)
    return _with_nans(numbers, cast_numbers, source, target)


def _with_nans(before: Array, after: Array, source: NumberKind, target: NumberKind) -> Array:
    """Makes every NaN quiet, with its sign and the payload bits that there is room for."""
    from_bits = before.view(f"<u{source.width_bytes}")
    to_bits = after.view(f"<u{target.width_bytes}")
    from_mantissa, to_mantissa = source.mantissa_bits, target.mantissa_bits
    assert from_mantissa is not None and to_mantissa is not None
    infinity = _infinity(source)
    unsigned = from_bits & from_bits.dtype.type(2 ** (8 * source.width_bytes - 1) - 1)
    if unsigned.max(initial=0) <= infinity:
        return after
    places = np.nonzero(unsigned > infinity)
    payload = (unsigned[places] - infinity).astype(np.uint64)
    shift = np.uint64(abs(to_mantissa - from_mantissa))
    payload = payload << shift if to_mantissa > from_mantissa else payload >> shift
    negative = (from_bits[places] != unsigned[places]).astype(np.uint64)
    sign = negative << np.uint64(8 * target.width_bytes - 1)
    quiet = np.uint64(1 << (to_mantissa - 1))
    fixed = to_bits.copy()
    fixed[places] = (payload | quiet | sign | np.uint64(_infinity(target))).astype(to_bits.dtype)
    return fixed.view(after.dtype)


def _infinity(kind: NumberKind) -> Any:
    """The bits of infinity."""
    assert kind.mantissa_bits is not None
    exponent_bits = 8 * kind.width_bytes - 1 - kind.mantissa_bits
    bits = ((1 << exponent_bits) - 1) << kind.mantissa_bits
    return np.dtype(f"<u{kind.width_bytes}").type(bits)


def _product(numbers: Array, factors: Array) -> Array:
    """Products, rounded once; what is no number is the canonical NaN."""
    return canonical(numbers * factors)


def canonical(found: Array) -> Array:
    """What is no number becomes the canonical NaN, in place."""
    places = np.isnan(found)
    if places.any():
        found[places] = found.dtype.type(_CANONICAL_NAN)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrounded:
    """What numbers are before they are rounded for the last time, floats of ``kind``.
    ``zeros`` are added to integers when they are whole."""

    numbers: Array
    kind: NumberKind
    zeros: Array | None = None

    def rounded(self, target: NumberKind) -> Array:
        """As numbers of another kind; integers are 0 for what is no number, and bounded."""
        with np.errstate(all="ignore"):
            if target.is_float:
                return cast(self.numbers, self.kind, target)
            steps = np.rint(self.numbers)
        places = np.isnan(steps)
        if places.any():
            steps[places] = 0
        np.maximum(steps, -_INTEGER_BOUND, out=steps)
        np.minimum(steps, _INTEGER_BOUND, out=steps)
        if self.zeros is not None:
            steps = steps.astype(np.int32) + self.zeros
        bounds = np.iinfo(target.storage)
        np.maximum(steps, steps.dtype.type(bounds.min), out=steps)
        np.minimum(steps, steps.dtype.type(bounds.max), out=steps)
        found: Array = steps.astype(target.storage)
        return found

    def leans(self, target: NumberKind) -> NDArray[np.uint8]:
        """How far each is from what it is rounded to (FORMAT.md, "Leans"): its size, and
        ``LEAN_BELOW`` where that is larger than it."""
        dropped = self._dropped(target) if target.is_float else 0
        if target.is_float and not dropped:
            return np.zeros(len(self.numbers), np.uint8)
        with np.errstate(all="ignore"):
            above = self._above(target) if target.is_float else self._above_whole()
        # Half octaves are told by the exponent of a float and the bit behind it.
        wide = self.kind.width_bytes == 8
        place, bias = (51, 1023) if wide else (22, 127)
        bits = above.view("<i8" if wide else "<i4")
        sizes = ((bits & np.iinfo(bits.dtype).max) >> place) - (2 * (bias + dropped - 8) - 1)
        found: NDArray[np.uint8] = np.clip(sizes, 0, LEAN_SIZES - 1).astype(np.uint8)
        found |= (above < 0).view(np.uint8) * np.uint8(LEAN_BELOW)
        return found

    def _dropped(self, target: NumberKind) -> int:
        """How many bits of a mantissa are rounded off."""
        assert self.kind.mantissa_bits is not None and target.mantissa_bits is not None
        return max(0, self.kind.mantissa_bits - target.mantissa_bits)

    def _above(self, target: NumberKind) -> Array:
        """How far each float is above its rounded one, in steps of its own kind."""
        rounded = cast(cast(self.numbers, self.kind, target), target, self.kind)
        signed = f"<i{self.kind.width_bytes}"
        # Both have the same sign, so that this is how far their sizes are apart.
        steps = self.numbers.view(signed) - rounded.view(signed)
        above: Array = steps.astype(self.kind.storage)
        above *= np.isfinite(rounded)
        above *= np.copysign(above.dtype.type(1), self.numbers)
        return above

    def _above_whole(self) -> Array:
        """How far each is above the nearest integer."""
        above: Array = self.numbers - np.rint(self.numbers)
        above[~(np.abs(self.numbers) < _INTEGER_BOUND)] = 0
        return above


# --- bytes ------------------------------------------------------------------------------


def put_value_map(one: ValueMap | None) -> bytes:
    """Number, length of the parameters, and parameters."""
    if one is None:
        return varints(Operation.IDENTITY, 0)
    out = varints(one.source.number, one.target.number)
    if one.operation != Operation.CAST:
        out += varints(one.inner, one.channels) + _put_list(one.factors)
        if one.operation != Operation.SCALE:
            out += _put_list(one.zeros)
    return varints(one.operation, len(out)) + out


def _put_list(numbers: NumberList | None) -> bytes:
    if numbers is None:
        return varints(0)
    if isinstance(numbers.content, SourceRange):
        return varints(2, numbers.kind.number) + put_range(numbers.content)
    return varints(1, numbers.kind.number) + numbers.content


def parse_value_map(number: int, cursor: Cursor, sources: Sequence[FileRef]) -> ValueMap | None:
    """The map of that number from its parameters. Raises: DeltaError."""
    if number not in Operation._value2member_map_:
        raise DeltaError(f"a prediction has value map {number}: not supported by this release")
    operation = Operation(number)
    if operation == Operation.IDENTITY:
        cursor.end()
        return None
    source, target = parse_kind(cursor), parse_kind(cursor)
    from_float, to_float = operation != Operation.DEQUANTISE, operation != Operation.QUANTISE
    same = operation == Operation.CAST and source == target
    if (source.is_float, target.is_float) != (from_float, to_float) or same:
        raise cursor.error(f"maps {source.name} to {target.name}, which its map does not do")
    if operation == Operation.CAST:
        cursor.end()
        return ValueMap(operation=operation, source=source, target=target)
    inner, channels = cursor.varint(), cursor.varint()
    if not inner or not 1 <= channels <= CHANNELS_MAX:
        raise cursor.error(f"has {channels} channels: 1 to {CHANNELS_MAX} are possible")
    factors = _parse_list(cursor, channels, sources, floats=True)
    if factors is None:
        raise cursor.error("has no factors")
    zeros = None
    if operation != Operation.SCALE:
        zeros = _parse_list(cursor, channels, sources, floats=False)
    cursor.end()
    return ValueMap(
        operation=operation,
        source=source,
        target=target,
        inner=inner,
        channels=channels,
        factors=factors,
        zeros=zeros,
    )


def parse_kind(cursor: Cursor) -> NumberKind:
    """Raises: DeltaError."""
    number = cursor.varint()
    if number not in _BY_NUMBER:
        raise cursor.error(f"has numbers of kind {number}, unknown to this release")
    return _BY_NUMBER[number]


def _parse_list(
    cursor: Cursor, channels: int, sources: Sequence[FileRef], *, floats: bool
) -> NumberList | None:
    where = cursor.varint()
    if where == 0:
        return None
    if where > 2:
        raise cursor.error(f"has a list of form {where}, unknown to this release")
    kind = parse_kind(cursor)
    if kind.is_float != floats:
        raise cursor.error(f"has a list of {kind.name}, which is not possible there")
    length = channels * kind.width_bytes
    if where == 1:
        return NumberList(kind=kind, content=bytes(cursor.take(length)))
    held = parse_range(cursor, sources)
    if held.total_bytes != length:
        raise cursor.error(f"has a list of {held.total_bytes} bytes instead of {length}")
    if held.work(0, length) > _LIST_READS_MAX:
        raise cursor.error("has a list that stands in too many places")
    return NumberList(kind=kind, content=held)
