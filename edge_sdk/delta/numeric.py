"""The numeric difference, bit for bit. Source: FORMAT.md, "Numeric difference".

Everything works on bit patterns as unsigned integers modulo 2**width; no float arithmetic,
so -0.0, subnormals and NaN payloads survive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[Any]  # unsigned integers of 1, 2, 4 or 8 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementKind:
    """How elements are read. ``mantissa_bits`` is None for integers; ``difference_bits`` hold
    each difference of two elements, modulo their power of two."""

    number: int
    name: str
    width_bytes: int
    mantissa_bits: int | None = None
    difference_bits: int = field(default=0)

    def __post_init__(self) -> None:
        if not self.difference_bits:
            object.__setattr__(self, "difference_bits", 8 * self.width_bytes)

    @property
    def bits(self) -> np.dtype[Any]:
        return np.dtype(f"<u{self.width_bytes}")

    @property
    def is_float(self) -> bool:
        return self.mantissa_bits is not None


KINDS: tuple[ElementKind, ...] = (
    ElementKind(number=0, name="int8", width_bytes=1),
    ElementKind(number=1, name="int16", width_bytes=2),
    ElementKind(number=2, name="int32", width_bytes=4),
    ElementKind(number=3, name="int64", width_bytes=8),
    ElementKind(number=4, name="float16", width_bytes=2, mantissa_bits=10),
    ElementKind(number=5, name="bfloat16", width_bytes=2, mantissa_bits=7),
    ElementKind(number=6, name="float32", width_bytes=4, mantissa_bits=23),
    ElementKind(number=7, name="float64", width_bytes=8, mantissa_bits=52),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
# Dtypes whose elements are differenced as another kind. 8-bit floats and packed 4-bit
# integers are single bytes; a complex number is two floats.
_LIKE = {
    "bool": "int8",
    "int4": "int8",
    "uint4": "int8",
    "int2": "int8",
    "uint2": "int8",
    "uint8": "int8",
    "uint16": "int16",
    "uint32": "int32",
    "uint64": "int64",
    "complex64": "float32",
    "complex128": "float64",
}


def kind_of(dtype: str) -> ElementKind | None:
    """The kind for a tensor's dtype; None where its bytes are no elements (strings)."""
    if dtype.startswith(("float8", "float4")):
        return _BY_NAME["int8"]
    return _BY_NAME.get(_LIKE.get(dtype, dtype))


def ordered(values: Bits, kind: ElementKind) -> Bits:
    """Bits of floats to unsigned integers in the floats' order, a bijection of shape (n,)."""
    found: Bits = values ^ (_spread_sign(values) | _sign_bit(kind))
    return found


def unordered(numbers: Bits, kind: ElementKind) -> Bits:
    """The inverse of ``ordered``."""
    found: Bits = numbers ^ (~_spread_sign(numbers) | _sign_bit(kind))
    return found


def difference(source: Bits, target: Bits, kind: ElementKind) -> Bits:
    """From source to target, modulo 2**width; all of shape (n,). Floats: how many values lie
    between them, positive away from zero."""
    if not kind.is_float:
        return target - source
    return _reflect(ordered(target, kind) - ordered(source, kind), source)


def moved(source: Bits, difference: Bits, kind: ElementKind) -> Bits:
    """The target that is ``difference`` from the source; all of shape (n,)."""
    if not kind.is_float:
        return source + difference
    return unordered(ordered(source, kind) + _reflect(difference, source), kind)


def mirrored(source: Bits, target: Bits, kind: ElementKind) -> Bits:
    """Floats: the target as far on the other side of the source, where that is negative; all
    of shape (n,). Twice is the target again."""
    place = ordered(source, kind)
    other = unordered(place + (place - ordered(target, kind)), kind)
    return np.where(source >= _sign_bit(kind), other, target)


def exponents(source: Bits, kind: ElementKind) -> Bits:
    """The exponent field of floats, of shape (n,) and in the narrowest type.

    Narrow so that a stable sort is NumPy's radix sort (16 bits and less).
    """
    assert kind.mantissa_bits is not None
    exponent_bits = 8 * kind.width_bytes - 1 - kind.mantissa_bits
    dtype = kind.bits.type
    field: Bits = (source >> dtype(kind.mantissa_bits)) & dtype((1 << exponent_bits) - 1)
    return field.astype(np.uint8 if exponent_bits <= 8 else np.uint16)


def _sign_bit(kind: ElementKind) -> Any:
    return kind.bits.type(1 << (8 * kind.width_bytes - 1))


def _spread_sign(values: Bits) -> Bits:
    """All bits set where the highest is."""
    width_bytes = values.dtype.itemsize
    spread: Bits = (values.view(f"<i{width_bytes}") >> (8 * width_bytes - 1)).view(values.dtype)
    return spread


def negated(values: Bits, where: Bits) -> Bits:
    """The values, modulo 2**width, negated where all bits of ``where`` are set, not none."""
    return (values ^ where) - where


def _reflect(difference: Bits, source: Bits) -> Bits:
    """Negates where the source is negative, so that positive means away from zero."""
    return negated(difference, _spread_sign(source))
