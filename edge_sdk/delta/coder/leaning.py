"""Elements that are coded by how their prediction leans. Source: FORMAT.md, "Leans".

What a value map makes is rounded, and where it was rounded from says which way the target is
likely to differ, and how likely it is to differ at all. The key of such an element tells both
how far its prediction leans and how large it is, and its difference is reflected where the
prediction leans down.

Backends know nothing of this: they are given elements of another kind, whose exponent is that
key and whose differences are those, so they find the same symbols.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import numeric
from edge_sdk.delta.coder.tables import DIFFERENCE, LEANING, CodeTable
from edge_sdk.delta.numeric import KINDS, Bits, ElementKind
from edge_sdk.delta.value_maps import LEAN_SIZES

Leans = NDArray[np.uint8]
"""One byte an element, as ``Unrounded.leans`` makes them."""

# Exponents are told apart from 2**-15 to 2**0.
_EXPONENTS = 16
# A backend's key has so many bits.
_KEY_BITS = 8
_STANDING_IN = {1: "bfloat16", 2: "bfloat16", 4: "float32", 8: "float64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaningKind(ElementKind):
    """A kind of floats that stands in for another kind's elements with leans."""

    stands_for: ElementKind


@lru_cache(maxsize=len(KINDS))
def leaning_kind(kind: ElementKind) -> LeaningKind:
    """The kind that stands in for ``kind``."""
    other = next(one for one in KINDS if one.name == _STANDING_IN[kind.width_bytes])
    return LeaningKind(
        number=other.number,
        name=f"{kind.name} with leans",
        width_bytes=other.width_bytes,
        mantissa_bits=other.mantissa_bits,
        difference_bits=kind.difference_bits,
        stands_for=kind,
    )


@lru_cache(maxsize=16)
def standing_in(table: CodeTable) -> CodeTable:
    """The table of model ``LEANING`` as backends know it."""
    return replace(table, kind=leaning_kind(table.kind), model=DIFFERENCE)


def as_written(table: CodeTable) -> CodeTable:
    """The inverse of ``standing_in``; other tables as they are."""
    if not isinstance(table.kind, LeaningKind):
        return table
    return replace(table, kind=table.kind.stands_for, model=LEANING)


def standing_source(kind: ElementKind, source: Bits, leans: Leans) -> Bits:
    """What stands in for predicted elements, of shape (n,)."""
    other = leaning_kind(kind)
    keys = (leans & np.uint8(LEAN_SIZES - 1)).astype(other.bits)
    if kind.mantissa_bits is not None:
        exponents = numeric.exponents(source, kind).astype(np.int16) - _first_exponent(kind)
        keys |= np.clip(exponents, 0, _EXPONENTS - 1).astype(other.bits) * other.bits.type(
            LEAN_SIZES
        )
    found: Bits = keys << other.bits.type(8 * other.width_bytes - 1 - _KEY_BITS)
    return found


def standing_target(kind: ElementKind, source: Bits, target: Bits, leans: Leans) -> Bits:
    """What stands in for target elements, of shape (n,)."""
    other = leaning_kind(kind)
    away = numeric.negated(_place(target, kind) - _place(source, kind), _below(leans, kind))
    wide = away.view(f"<i{kind.width_bytes}").astype(f"<i{other.width_bytes}").view(other.bits)
    stood_in = standing_source(kind, source, leans)
    return numeric.unordered(numeric.ordered(stood_in, other) + wide, other)


def target_of(
    kind: ElementKind, source: Bits, leans: Leans, stood_in: Bits, standing: Bits
) -> Bits:
    """The target elements for which ``standing`` stands in, as ``stood_in`` does for the
    predicted ones; all of shape (n,)."""
    other = leaning_kind(kind)
    wide = numeric.ordered(standing, other) - numeric.ordered(stood_in, other)
    away = wide.astype(kind.bits, copy=False)
    place = _place(source, kind) + numeric.negated(away, _below(leans, kind))
    return numeric.unordered(place, kind) if kind.is_float else place


def _place(elements: Bits, kind: ElementKind) -> Bits:
    return numeric.ordered(elements, kind) if kind.is_float else elements


def _below(leans: Leans, kind: ElementKind) -> Bits:
    """All bits set where a prediction leans down."""
    signs = leans.view(np.int8) >> 7
    return signs.astype(f"<i{kind.width_bytes}").view(kind.bits)


def _first_exponent(kind: ElementKind) -> int:
    assert kind.mantissa_bits is not None
    exponent_bits = 8 * kind.width_bytes - 1 - kind.mantissa_bits
    return int((1 << (exponent_bits - 1)) - 1 - (_EXPONENTS - 1))
