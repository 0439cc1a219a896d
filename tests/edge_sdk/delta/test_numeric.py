"""The numeric difference: a bijection on bit patterns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta import numeric
from edge_sdk.delta.numeric import KINDS, ElementKind, kind_of
from tests.support.deltas import EDGE_BITS

FLOATS = [kind for kind in KINDS if kind.is_float]


def bits(kind: ElementKind, values: list[int]) -> np.ndarray:
    return np.array(values, kind.bits)


def all_pairs(kind: ElementKind) -> tuple[np.ndarray, np.ndarray]:
    edges = bits(kind, EDGE_BITS[kind.name])
    source, target = np.meshgrid(edges, edges)
    return source.ravel(), target.ravel()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_edge_values_come_back_bit_for_bit(kind: ElementKind) -> None:
    """From every edge value to every other: -0.0, subnormals, infinities and NaN payloads."""
    source, target = all_pairs(kind)
    difference = numeric.difference(source, target, kind)
    assert difference.dtype == kind.bits
    assert np.array_equal(numeric.moved(source, difference, kind), target)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@given(data=st.data())
def test_any_bits_come_back(kind: ElementKind, data: st.DataObject) -> None:
    """Any two arrays of bit patterns are told apart by their difference alone."""
    top = 2 ** (8 * kind.width_bytes) - 1
    pairs = data.draw(st.lists(st.tuples(st.integers(0, top), st.integers(0, top)), max_size=20))
    source = bits(kind, [one for one, _ in pairs])
    target = bits(kind, [other for _, other in pairs])
    difference = numeric.difference(source, target, kind)
    assert np.array_equal(numeric.moved(source, difference, kind), target)


@pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
def test_ordered_integers_follow_the_floats(kind: ElementKind) -> None:
    """-inf < -1 < -subnormal < -0 < +0 < subnormal < 1 < inf, as unsigned integers."""
    assert kind.mantissa_bits is not None
    sign = 1 << (8 * kind.width_bytes - 1)
    infinity = sign - (1 << kind.mantissa_bits)
    one = infinity >> 1 & ~((1 << kind.mantissa_bits) - 1)
    rising = [sign + infinity, sign + one, sign + 1, sign, 0, 1, one, infinity]
    numbers = numeric.ordered(bits(kind, rising), kind)
    assert np.all(numbers[1:] > numbers[:-1])
    assert np.array_equal(numeric.unordered(numbers, kind), bits(kind, rising))
    assert int(numbers[4]) == int(numbers[3]) + 1  # -0.0 and +0.0 are neighbours


def test_all_16_bit_patterns_are_ordered_bijectively() -> None:
    """Every float16 and bfloat16 pattern has its own ordered integer."""
    every = np.arange(1 << 16, dtype=np.uint16)
    for kind in FLOATS[:2]:
        numbers = numeric.ordered(every, kind)
        assert len(np.unique(numbers)) == len(every)
        assert np.array_equal(numeric.unordered(numbers, kind), every)


def test_away_from_zero_is_positive_whatever_the_sign() -> None:
    """Reflection: growing in size is positive, shrinking negative, on both sides of zero."""
    kind = kind_of("float32")
    assert kind is not None
    source = np.array([1.0, -1.0, 1.0, -1.0], "<f4").view("<u4")
    target = source + np.array([3, 3, -3, -3]).astype("<u4")
    found = numeric.difference(source, target, kind).view("<i4")
    assert found.tolist() == [3, 3, -3, -3]


@pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
def test_a_mirrored_target_has_the_difference_without_reflection(kind: ElementKind) -> None:
    """Between all edge values; and mirrored twice it is itself."""
    source, target = all_pairs(kind)
    mirror = numeric.mirrored(source, target, kind)
    plain = numeric.ordered(target, kind) - numeric.ordered(source, kind)
    assert np.array_equal(numeric.difference(source, mirror, kind), plain)
    assert np.array_equal(numeric.mirrored(source, mirror, kind), target)


def test_small_integer_steps_are_small_numbers() -> None:
    """Also across the wrap of the type."""
    kind = kind_of("int8")
    assert kind is not None
    source = np.array([5, 5, 5, 5, 255], np.uint8)
    target = np.array([5, 4, 6, 3, 0], np.uint8)
    found = numeric.difference(source, target, kind).view("<i1")
    assert found.tolist() == [0, -1, 1, -2, 1]


@pytest.mark.parametrize("kind", FLOATS, ids=lambda kind: kind.name)
def test_exponents_are_narrow_and_right(kind: ElementKind) -> None:
    """The exponent field comes out without sign, in a type that sorts by radix."""
    assert kind.mantissa_bits is not None
    top = (1 << (8 * kind.width_bytes - 1 - kind.mantissa_bits)) - 1
    sign = 1 << (8 * kind.width_bytes - 1)
    values = [
        3 << kind.mantissa_bits,
        sign | 3 << kind.mantissa_bits | 1,
        top << kind.mantissa_bits,
    ]
    found = numeric.exponents(bits(kind, values), kind)
    assert found.tolist() == [3, 3, top]
    assert found.dtype.itemsize <= 2


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        ("float32", "float32"),
        ("bfloat16", "bfloat16"),
        ("uint8", "int8"),
        ("bool", "int8"),
        ("int4", "int8"),
        ("float8_e4m3fn", "int8"),
        ("float4_e2m1fn", "int8"),
        ("uint64", "int64"),
        ("complex64", "float32"),
        ("string", None),
    ],
)
def test_each_dtype_has_its_kind(dtype: str, name: str | None) -> None:
    """Dtypes of models are differenced as a kind of the format; strings are no numbers."""
    kind = kind_of(dtype)
    assert (kind.name if kind else None) == name
