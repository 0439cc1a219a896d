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
        numbers = np.frombuffer(data, self.source.storage)
        places = np.arange(first, first + len(numbers))
        return self.apply_at(numbers, places).tobytes()

    def apply_at(self, numbers: Array, places: Array) -> Array:
        """What the numbers at these places become."""
        with np.errstate(all="ignore"):
            if self.operation == Operation.CAST:
                return cast(numbers, self.source, self.target)
            channel = places // self.inner % self.channels
            assert self.factors is not None
            factors = self.factors.cast(self._factor_kind).values[channel]
            if self.operation == Operation.SCALE:
                return self._scaled(numbers, factors)
            zeros = self._zeros(channel)
            if self.operation == Operation.QUANTISE:
                widened = cast(numbers, self.source, _FLOAT32)
                return quantised(widened, factors, zeros, self.target)
            steps = (numbers.astype(np.int32) - zeros).astype("<f4")
            return cast(_product(steps, factors), _FLOAT32, self.target)

    @property
    def _factor_kind(self) -> NumberKind:
        """What factors are cast to before they are used."""
        wide = self.source == self.target == _FLOAT64
        return _FLOAT64 if wide else _FLOAT32

    def _zeros(self, channel: Array) -> Array:
        if self.zeros is None:
            return np.zeros(len(channel), np.int32)
        return self.zeros.values[channel].astype(np.int32)

    def _scaled(self, numbers: Array, factors: Array) -> Array:
        if self.source == self.target == _FLOAT64:
            return _product(numbers, factors)
        return cast(_product(cast(numbers, self.source, _FLOAT32), factors), _FLOAT32, self.target)


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


def as_whole(numbers: Array) -> NDArray[np.int32]:
    """Float32 rounded to integers; 0 for what is no number, and bounded."""
    steps = np.rint(numbers)
    steps[np.isnan(steps)] = 0
    return np.clip(steps, -_INTEGER_BOUND, _INTEGER_BOUND).astype(np.int32)


def saturated(numbers: Array, target: NumberKind) -> Array:
    """Float32, changed in place, rounded to integers that ``target`` holds; 0 for what is no
    number. All bounds of integers are within those of ``as_whole``."""
    np.rint(numbers, out=numbers)
    places = np.isnan(numbers)
    if places.any():
        numbers[places] = 0
    bounds = np.iinfo(target.storage)
    np.maximum(numbers, np.float32(bounds.min), out=numbers)
    np.minimum(numbers, np.float32(bounds.max), out=numbers)
    return numbers.astype(target.storage)


def quantised(numbers: Array, factors: Array, zeros: Array, target: NumberKind) -> Array:
    """``round(numbers / factors) + zeros``, saturated; float32 by float32 and int32."""
    whole = as_whole(numbers / factors) + zeros
    bounds = np.iinfo(target.storage)
    return np.clip(whole, bounds.min, bounds.max).astype(target.storage)


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
