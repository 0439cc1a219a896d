"""Value maps, against exact arithmetic with fractions: every bit is what FORMAT.md says."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import DeltaError, Digest
from edge_sdk.delta import FileRef
from edge_sdk.delta.prediction import (
    Prediction,
    SourceRange,
    parse_prediction,
    put_prediction,
)
from edge_sdk.delta.value_maps import (
    NUMBER_KINDS,
    NumberKind,
    NumberList,
    Operation,
    ValueMap,
)
from edge_sdk.delta.varint import Cursor, varints

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "uint8", "uint16")
FLOAT32 = NUMBER_KINDS["float32"]
Exact = Fraction | str  # "inf", "-inf", "nan", "-0"


def exponent_bits(kind: NumberKind) -> int:
    assert kind.mantissa_bits is not None
    return 8 * kind.width_bytes - 1 - kind.mantissa_bits


def exact(bits: int, kind: NumberKind) -> Exact:
    """What a float's bits stand for."""
    mantissa_bits, e_bits = kind.mantissa_bits, exponent_bits(kind)
    assert mantissa_bits is not None
    negative = bits >> (8 * kind.width_bytes - 1)
    exponent = (bits >> mantissa_bits) & ((1 << e_bits) - 1)
    mantissa = bits & ((1 << mantissa_bits) - 1)
    if exponent == (1 << e_bits) - 1:
        return "nan" if mantissa else ("-inf" if negative else "inf")
    bias = (1 << (e_bits - 1)) - 1
    whole = mantissa + ((1 << mantissa_bits) if exponent else 0)
    size = Fraction(whole) * Fraction(2) ** (max(exponent, 1) - bias - mantissa_bits)
    if negative:
        return -size if size else "-0"
    return size


def rounded(value: Exact, kind: NumberKind) -> int:
    """The bits of the nearest float, ties to even. No NaN."""
    mantissa_bits, e_bits = kind.mantissa_bits, exponent_bits(kind)
    assert mantissa_bits is not None
    sign = 1 << (8 * kind.width_bytes - 1)
    infinity = ((1 << e_bits) - 1) << mantissa_bits
    if isinstance(value, str):
        return {"inf": infinity, "-inf": sign | infinity, "-0": sign}[value]
    if value < 0:
        return sign | rounded(-value, kind)
    if value == 0:
        return 0
    bias = (1 << (e_bits - 1)) - 1
    power = value.numerator.bit_length() - value.denominator.bit_length()
    power -= value < Fraction(2) ** power
    step = Fraction(2) ** (max(power, 1 - bias) - mantissa_bits)
    whole = round(value / step)  # Python rounds a Fraction to nearest, ties to even
    biased = max(power + bias, 1)
    return min(((biased - 1) << mantissa_bits) + whole, infinity)


def cast_nan(bits: int, source: NumberKind, target: NumberKind) -> int:
    assert source.mantissa_bits is not None and target.mantissa_bits is not None
    negative = bits >> (8 * source.width_bytes - 1)
    mantissa = bits & ((1 << source.mantissa_bits) - 1)
    shift = target.mantissa_bits - source.mantissa_bits
    mantissa = mantissa << shift if shift > 0 else mantissa >> -shift
    exponent = ((1 << exponent_bits(target)) - 1) << target.mantissa_bits
    sign = negative << (8 * target.width_bytes - 1)
    return sign | exponent | mantissa | 1 << (target.mantissa_bits - 1)


def cast_bits(bits: int, source: NumberKind, target: NumberKind) -> int:
    if source == target:
        return bits
    if FLOAT32 not in (source, target):
        return cast_bits(cast_bits(bits, source, FLOAT32), FLOAT32, target)
    value = exact(bits, source)
    return cast_nan(bits, source, target) if value == "nan" else rounded(value, target)


def product_bits(x: int, y: int, kind: NumberKind) -> int:
    a, b = exact(x, kind), exact(y, kind)
    nan = rounded("inf", kind) | 1 << (kind.mantissa_bits or 0) - 1
    negative = (x ^ y) >> (8 * kind.width_bytes - 1)
    if "nan" in (a, b):
        return nan
    if any(one in ("inf", "-inf") for one in (a, b)):
        zero = any(one in (0, "-0") for one in (a, b))
        return nan if zero else rounded("-inf" if negative else "inf", kind)
    size = abs(Fraction(0 if a == "-0" else a) * Fraction(0 if b == "-0" else b))
    return rounded(size, kind) | negative << (8 * kind.width_bytes - 1)


def numbers_of(data: bytes, kind: NumberKind) -> list[int]:
    return np.frombuffer(data, f"<u{kind.width_bytes}").tolist()


def bytes_of(bits: list[int], kind: NumberKind) -> bytes:
    return np.array(bits, f"<u{kind.width_bytes}").tobytes()


@st.composite
def float_bits(draw: st.DrawFn, kind: NumberKind) -> int:
    """Any bits; those near the borders of other kinds often."""
    top = 8 * kind.width_bytes
    if draw(st.booleans()):
        return draw(st.integers(0, (1 << top) - 1))
    other = NUMBER_KINDS[draw(st.sampled_from(FLOATS))]
    border = draw(st.integers(0, (1 << 8 * other.width_bytes) - 1))
    near = cast_bits(border, other, kind) + draw(st.integers(-2, 2))
    tie = 1 << draw(st.integers(0, top - 2))
    return (near ^ draw(st.sampled_from([0, tie]))) % (1 << top)


def listed(kind: NumberKind, bits: list[int]) -> NumberList:
    return NumberList(kind=kind, content=bytes_of(bits, kind))


CASTS = [(a, b) for a in FLOATS for b in FLOATS if a != b]


@pytest.mark.unmeasured
@pytest.mark.parametrize(("before", "after"), CASTS)
@settings(max_examples=30)
@given(data=st.data())
def test_casts_round_to_nearest_even(before: str, after: str, data: st.DataObject) -> None:
    """All twelve casts, NaNs, infinities, subnormals and ties among them."""
    source, target = NUMBER_KINDS[before], NUMBER_KINDS[after]
    bits = data.draw(st.lists(float_bits(source), min_size=1, max_size=20))
    values = ValueMap(operation=Operation.CAST, source=source, target=target)
    found = numbers_of(values.apply(bytes_of(bits, source), 0), target)
    assert found == [cast_bits(one, source, target) for one in bits]


@pytest.mark.unmeasured
@pytest.mark.parametrize("before", FLOATS)
@pytest.mark.parametrize("after", FLOATS)
@settings(max_examples=30)
@given(data=st.data())
def test_scaling_is_one_rounded_product(before: str, after: str, data: st.DataObject) -> None:
    """In float32, or float64 where both kinds are; then cast."""
    source, target = NUMBER_KINDS[before], NUMBER_KINDS[after]
    factor_kind = NUMBER_KINDS[data.draw(st.sampled_from(FLOATS))]
    bits = data.draw(st.lists(float_bits(source), min_size=1, max_size=8))
    factors = data.draw(st.lists(float_bits(factor_kind), min_size=1, max_size=3))
    inner, first = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 2**40))
    values = ValueMap(
        operation=Operation.SCALE,
        source=source,
        target=target,
        inner=inner,
        channels=len(factors),
        factors=listed(factor_kind, factors),
    )
    found = numbers_of(values.apply(bytes_of(bits, source), first), target)
    wide = source if source == target == NUMBER_KINDS["float64"] else FLOAT32
    for place, (one, made) in enumerate(zip(bits, found, strict=True), first):
        factor = cast_bits(factors[place // inner % len(factors)], factor_kind, wide)
        product = product_bits(cast_bits(one, source, wide), factor, wide)
        assert made == cast_bits(product, wide, target)


def quantised(x: int, factor: int, zero: int, target: NumberKind) -> int:
    """By fractions; a quotient is rounded to float32 first."""
    a, b = exact(x, FLOAT32), exact(factor, FLOAT32)
    negative = (x ^ factor) >> 31
    if "nan" in (a, b) or (a in (0, "-0") and b in (0, "-0")):
        steps = 0
    elif a in ("inf", "-inf"):
        steps = 0 if b in ("inf", "-inf") else (-(2**17) if negative else 2**17)
    elif b in (0, "-0"):
        steps = -(2**17) if negative else 2**17
    elif a == "-0" or b in ("inf", "-inf"):
        steps = 0
    else:
        quotient = exact(rounded(Fraction(a) / Fraction(b), FLOAT32), FLOAT32)
        if isinstance(quotient, str):
            steps = {"inf": 2**17, "-inf": -(2**17), "-0": 0}[quotient]
        else:
            steps = max(-(2**17), min(2**17, round(quotient)))
    bounds = np.iinfo(target.storage)
    return max(bounds.min, min(bounds.max, steps + zero))


@pytest.mark.parametrize("after", INTEGERS)
@settings(max_examples=30)
@given(data=st.data())
def test_quantising_divides_rounds_and_saturates(after: str, data: st.DataObject) -> None:
    """Ties go to even, NaN to the zero point, what is too large to the nearest end."""
    source, target = NUMBER_KINDS[data.draw(st.sampled_from(FLOATS))], NUMBER_KINDS[after]
    scale = st.floats(2.0**-10, 10.0, width=32)
    bits = data.draw(
        st.lists(
            st.one_of(
                float_bits(source),
                st.integers(-600, 600).map(lambda n: rounded(Fraction(n, 4), source)),
            ),
            min_size=1,
            max_size=8,
        )
    )
    factor = data.draw(
        st.one_of(
            float_bits(FLOAT32),
            st.sampled_from([0.5, 1.0, 0.25]).map(lambda x: rounded(Fraction(x), FLOAT32)),
            scale.map(lambda x: rounded(Fraction(x), FLOAT32)),
        )
    )
    bounds = np.iinfo(target.storage)
    zero = data.draw(st.integers(int(bounds.min), int(bounds.max)))
    values = ValueMap(
        operation=Operation.QUANTISE,
        source=source,
        target=target,
        factors=listed(FLOAT32, [factor]),
        zeros=NumberList(kind=target, content=np.array([zero], target.storage).tobytes()),
    )
    found = np.frombuffer(values.apply(bytes_of(bits, source), 3), target.storage)
    wanted = [quantised(cast_bits(one, source, FLOAT32), factor, zero, target) for one in bits]
    assert found.tolist() == wanted


@pytest.mark.parametrize("before", INTEGERS)
@settings(max_examples=30)
@given(data=st.data())
def test_dequantising_multiplies_and_casts(before: str, data: st.DataObject) -> None:
    """The steps from the zero point times the factor, in float32, cast to any float."""
    source, target = NUMBER_KINDS[before], NUMBER_KINDS[data.draw(st.sampled_from(FLOATS))]
    bounds = np.iinfo(source.storage)
    any_number = st.integers(int(bounds.min), int(bounds.max))
    numbers = data.draw(st.lists(any_number, min_size=1, max_size=8))
    factors = data.draw(st.lists(float_bits(FLOAT32), min_size=2, max_size=2))
    zeros = data.draw(st.lists(any_number, min_size=2, max_size=2))
    values = ValueMap(
        operation=Operation.DEQUANTISE,
        source=source,
        target=target,
        channels=2,
        factors=listed(FLOAT32, factors),
        zeros=NumberList(kind=source, content=np.array(zeros, source.storage).tobytes()),
    )
    content = np.array(numbers, source.storage).tobytes()
    found = numbers_of(values.apply(content, 0), target)
    for place, number in enumerate(numbers):
        steps = rounded(Fraction(number - zeros[place % 2]), FLOAT32)
        product = product_bits(steps, factors[place % 2], FLOAT32)
        assert found[place] == cast_bits(product, FLOAT32, target)


def test_any_part_of_a_mapped_prediction_is_the_same() -> None:
    """Transposed, quantised by channel with factors of the source: read from anywhere."""
    weights = np.random.default_rng(3).normal(size=(300, 700)).astype("<f4")
    scales = (np.abs(weights).max(axis=0) / 127).astype("<f4")
    source = weights.tobytes() + scales.tobytes()
    held = SourceRange(file=0, offset=0, length=4, dimensions=((700, 4), (300, 2800)))
    factors = SourceRange(file=0, offset=weights.nbytes, length=scales.nbytes)
    values = ValueMap(
        operation=Operation.QUANTISE,
        source=FLOAT32,
        target=NUMBER_KINDS["int8"],
        inner=300,
        channels=700,
        factors=NumberList(kind=FLOAT32, content=factors),
    )
    files = (FileRef(path="s", size_bytes=len(source), digest=Digest(bytes(32))),)
    body = put_prediction(Prediction(ranges=(held,), values=values))
    prediction = parse_prediction(Cursor(body, "a table"), files)
    assert prediction == Prediction(ranges=(held,), values=values)
    assert not prediction.is_plain
    wanted = np.rint(weights / scales).astype(np.int8).T.tobytes()
    assert prediction.length == len(wanted)

    def read(_file: int, offset: int, length: int) -> bytes:
        return source[offset : offset + length]

    for start, length in ((0, len(wanted)), (1, 1), (131_071, 5), (len(wanted) - 7, 7)):
        assert prediction.read(start, length, read) == wanted[start : start + length]
    with pytest.raises(DeltaError, match="more of a prediction"):
        prediction.read(len(wanted) - 3, 4, read)


def test_numbers_that_borders_cut_are_predicted_in_part() -> None:
    """Bytes from the middle of one number to the middle of another."""
    before = np.arange(10, dtype="<f2")
    values = ValueMap(
        operation=Operation.CAST, source=NUMBER_KINDS["float16"], target=NUMBER_KINDS["float64"]
    )
    ranges = (SourceRange(file=0, offset=0, length=20),)
    found = Prediction(ranges=ranges, values=values).read(
        3, 70, lambda _file, offset, length: before.tobytes()[offset : offset + length]
    )
    assert found == before.astype("<f8").tobytes()[3:73]


SOURCES = (FileRef(path="a", size_bytes=100, digest=Digest(bytes(32))),)
RANGE = varints(1, 0, 0, 8, 0) + varints(0, 0)
ONE = np.float32(1).tobytes()


@pytest.mark.parametrize(
    ("number", "parameters", "problem"),
    [
        (1, varints(6), "ends within"),
        (1, varints(6, 6), "float32 to float32"),
        (1, varints(6, 0), "float32 to int8"),
        (1, varints(2, 6), "kind 2, unknown"),
        (1, varints(6, 4, 0), "too many"),
        (2, varints(0, 6, 1, 1, 1, 6) + ONE, "int8 to float32"),
        (2, varints(6, 6, 0, 1, 1, 6) + ONE, "channels"),
        (2, varints(6, 6, 1, 0, 1, 6) + ONE, "channels"),
        (2, varints(6, 6, 1, 65537, 1, 6) + ONE, "channels"),
        (2, varints(6, 6, 1, 1, 0), "no factors"),
        (2, varints(6, 6, 1, 1, 3), "form 3"),
        (2, varints(6, 6, 1, 1, 1, 0, 7), "list of int8"),
        (2, varints(6, 6, 1, 2, 1, 6) + ONE, "too early"),
        (2, varints(6, 6, 1, 1, 1, 6) + ONE + b"x", "too many"),
        (2, varints(6, 6, 1, 2, 2, 6, 0, 0, 4, 0), "4 bytes instead of 8"),
        (2, varints(6, 6, 1, 25, 2, 6, 0, 4, 100, 0), "no source has"),
        (3, varints(6, 6, 1, 1, 1, 6) + ONE + varints(0), "float32 to float32"),
        (3, varints(6, 0, 1, 1, 1, 6) + ONE + varints(1, 6) + ONE, "list of float32"),
        (4, varints(6, 6, 1, 1, 1, 6) + ONE + varints(0), "float32 to float32"),
        (7, b"", "value map 7: not supported"),
        (1, varints(7, 6) + b"", None),
        (3, varints(6, 0, 1, 1, 1, 6) + ONE + varints(0), None),
    ],
)
def test_a_map_that_cannot_be_is_refused(
    number: int, parameters: bytes, problem: str | None
) -> None:
    """Each is a DeltaError that says what is wrong; what is right is written the same."""
    body = RANGE + varints(number, len(parameters)) + parameters
    cursor = Cursor(body, "a table")
    if problem is None:
        assert put_prediction(parse_prediction(cursor, SOURCES)) == body
        return
    with pytest.raises(DeltaError, match=problem):
        parse_prediction(cursor, SOURCES)


def test_a_list_stands_in_few_places() -> None:
    """Factors between other bytes are found where 256 reads gather them; further apart refused."""
    sources = (FileRef(path="a", size_bytes=1 << 30, digest=Digest(bytes(32))),)
    for channels, stride, fits in ((256, 1 << 20, True), (257, 1 << 20, False), (65536, 60, True)):
        held = SourceRange(file=0, offset=0, length=2, dimensions=((channels, stride),))
        values = ValueMap(
            operation=Operation.SCALE,
            source=FLOAT32,
            target=FLOAT32,
            channels=channels,
            factors=NumberList(kind=NUMBER_KINDS["float16"], content=held),
        )
        body = whole(values, SourceRange(file=0, offset=0, length=4))
        if fits:
            assert parse_prediction(Cursor(body, "a table"), sources).values == values
            continue
        with pytest.raises(DeltaError, match="too many places"):
            parse_prediction(Cursor(body, "a table"), sources)


def test_ranges_hold_whole_numbers() -> None:
    """Bytes that are no whole number of the source kind are refused."""
    body = varints(1, 0, 0, 9, 0) + varints(0, 0) + varints(1, 2, 6, 4)
    with pytest.raises(DeltaError, match="within a number of kind float32"):
        parse_prediction(Cursor(body, "a table"), SOURCES)


def test_a_prediction_that_grows_keeps_to_what_lengths_can_be() -> None:
    """2**61 numbers of one byte cannot become floats of eight."""
    size = 2**61
    sources = (FileRef(path="a", size_bytes=size, digest=Digest(bytes(32))),)
    parameters = varints(0, 7, 1, 1, 1, 6) + ONE + varints(0)
    body = varints(1, 0, 0, size, 0) + varints(0, 0) + varints(4, len(parameters)) + parameters
    with pytest.raises(DeltaError, match="impossible number"):
        parse_prediction(Cursor(body, "a table"), sources)


def test_the_oracle_knows_what_numpy_knows() -> None:
    """The fractions above agree with NumPy where NumPy is sure: float64 to float32."""
    values = np.random.default_rng(4).normal(size=200) * 10.0 ** np.arange(-50, 50, 0.5)
    with np.errstate(over="ignore", under="ignore"):
        wanted = values.astype("<f4").view("<u4").tolist()
    float64 = NUMBER_KINDS["float64"]
    assert [cast_bits(one, float64, FLOAT32) for one in values.view("<u8").tolist()] == wanted
    assert math.isinf(np.array([rounded("inf", FLOAT32)], "<u4").view("<f4")[0])


def whole(values: ValueMap | None, *ranges: SourceRange) -> bytes:
    return put_prediction(Prediction(ranges=ranges, values=values))


def mapped(operation: Operation, before: str, after: str, **lists: NumberList) -> ValueMap:
    return ValueMap(
        operation=operation,
        source=NUMBER_KINDS[before],
        target=NUMBER_KINDS[after],
        inner=4,
        channels=3,
        **lists,
    )


STRIDED = SourceRange(file=0, offset=8, length=4, dimensions=((3, 40), (2, -4), (4, 9)))
HELD = SourceRange(file=0, offset=60, length=4, dimensions=((3, 8),))
HERE = NumberList(kind=FLOAT32, content=np.array([0.5, -2, 3e38], "<f4").tobytes())
POINTS = NumberList(kind=NUMBER_KINDS["int8"], content=bytes([1, 128, 255]))


@pytest.mark.parametrize(
    "body",
    [
        whole(None, STRIDED, SourceRange(file=0, offset=1, length=5)),
        whole(mapped(Operation.CAST, "float64", "bfloat16"), STRIDED),
        whole(
            mapped(
                Operation.SCALE,
                "float16",
                "float32",
                factors=NumberList(kind=FLOAT32, content=HELD),
            ),
            STRIDED,
        ),
        whole(mapped(Operation.QUANTISE, "float32", "uint8", factors=HERE, zeros=POINTS), STRIDED),
        whole(mapped(Operation.DEQUANTISE, "int8", "float64", factors=HERE, zeros=POINTS), STRIDED),
    ],
)
def test_every_flipped_bit_is_refused_or_harmless(body: bytes) -> None:
    """A table that another program wrote predicts other bytes, as many as it says, or none."""
    content = np.random.default_rng(5).bytes(200)
    files = (FileRef(path="a", size_bytes=200, digest=Digest(bytes(32))),)

    def read(file: int, offset: int, length: int) -> bytes:
        assert file == 0 and offset >= 0 and 0 < length <= 200 - offset
        return content[offset : offset + length]

    outcomes = set()
    for bit in range(8 * len(body)):
        flipped = bytearray(body)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            prediction = parse_prediction(Cursor(bytes(flipped), "a table"), files)
        except DeltaError:
            outcomes.add("refused")
            continue
        outcomes.add("read")
        for position in {0, prediction.length // 2, max(0, prediction.length - 1000)}:
            length = min(1000, prediction.length - position)
            assert len(prediction.read(position, length, read)) == length
    assert outcomes == {"refused", "read"}


# --- leans ------------------------------------------------------------------------------

SIZES = [
    Fraction(2) ** -power * share for power in range(8, 1, -1) for share in (1, Fraction(3, 2))
]
SIZES.append(Fraction(1, 2))


def lean_byte(lean: Fraction) -> int:
    """The size of a lean, with the highest bit where it is below 0."""
    return sum(one <= abs(lean) for one in SIZES) | (0x80 if lean < 0 else 0)


def float_lean(bits: int, source: NumberKind, target: NumberKind) -> Fraction:
    """Of a number that is cast once."""
    assert source.mantissa_bits is not None and target.mantissa_bits is not None
    dropped = source.mantissa_bits - target.mantissa_bits
    made = cast_bits(bits, source, target)
    if dropped <= 0 or exact(made, target) in ("nan", "inf", "-inf"):
        return Fraction(0)
    sign = 1 << (8 * source.width_bytes - 1)
    near = cast_bits(made, target, source)
    lean = Fraction((bits & ~sign) - (near & ~sign), 2**dropped)
    return -lean if bits & sign else lean


def leaning(values: ValueMap, content: bytes) -> list[int]:
    numbers, leans = values.apply_leaning(content, 3)
    assert numbers == values.apply(content, 3)
    return list(leans)


@pytest.mark.parametrize("before", FLOATS)
@pytest.mark.parametrize("after", FLOATS)
@settings(max_examples=30)
@given(data=st.data())
def test_floats_lean_to_where_they_were(before: str, after: str, data: st.DataObject) -> None:
    """How far the last cast moved them, in steps of the target kind."""
    source, target = NUMBER_KINDS[before], NUMBER_KINDS[after]
    bits = data.draw(st.lists(float_bits(source), min_size=1, max_size=8))
    if before == after:
        return
    values = ValueMap(operation=Operation.CAST, source=source, target=target)
    last, cast_last = source, bits
    if "float32" not in (before, after):
        last, cast_last = FLOAT32, [cast_bits(one, source, FLOAT32) for one in bits]
    wanted = [lean_byte(float_lean(one, last, target)) for one in cast_last]
    assert leaning(values, bytes_of(bits, source)) == wanted


@pytest.mark.parametrize("after", INTEGERS)
@settings(max_examples=40)
@given(numbers=st.lists(float_bits(FLOAT32), min_size=1, max_size=8), shift=st.integers(-20, 20))
def test_integers_lean_to_where_they_were(after: str, numbers: list[int], shift: int) -> None:
    """How far rounding moved the quotient; halves lean by as much as can be."""
    halves = [rounded(Fraction(one, 2), FLOAT32) for one in range(-5, 6)]
    numbers = [
        *numbers,
        *halves,
        rounded(Fraction(131071), FLOAT32),
        rounded(Fraction(131072), FLOAT32),
    ]
    values = ValueMap(
        operation=Operation.QUANTISE,
        source=FLOAT32,
        target=NUMBER_KINDS[after],
        factors=listed(FLOAT32, [rounded(Fraction(2) ** shift, FLOAT32)]),
    )

    def wanted(bits: int) -> int:
        value = exact(bits, FLOAT32)
        if value in ("nan", "inf", "-inf", "-0"):
            return 0
        assert isinstance(value, Fraction)
        quotient = exact(rounded(value / Fraction(2) ** shift, FLOAT32), FLOAT32)
        if isinstance(quotient, str) or abs(quotient) >= 131072:
            return 0
        return lean_byte(quotient - round(quotient))

    assert leaning(values, bytes_of(numbers, FLOAT32)) == [wanted(one) for one in numbers]


@pytest.mark.parametrize("target", ["float16", "bfloat16", "float32"])
def test_products_lean_by_their_last_rounding(target: str) -> None:
    """Scaled and dequantised numbers: from the float32 product."""
    kind = NUMBER_KINDS[target]
    chance = np.random.default_rng(4)
    steps = chance.integers(-128, 128, 50).astype("<i1")
    factor = np.array([0.0123], "<f4")
    factors = NumberList(kind=FLOAT32, content=factor.tobytes())
    products = (steps.astype("<f4") * factor).view("<u4").tolist()
    wanted = [lean_byte(float_lean(one, FLOAT32, kind)) for one in products]
    dequantised = ValueMap(
        operation=Operation.DEQUANTISE, source=NUMBER_KINDS["int8"], target=kind, factors=factors
    )
    assert leaning(dequantised, steps.tobytes()) == wanted
    scaled = ValueMap(operation=Operation.SCALE, source=FLOAT32, target=kind, factors=factors)
    assert leaning(scaled, steps.astype("<f4").tobytes()) == wanted
    assert len(set(wanted)) > (1 if target == "float32" else 10) - (target == "float32")


def test_leans_of_any_part_are_the_same() -> None:
    """With their numbers, from anywhere in a prediction."""
    source = np.linspace(-1, 1, 200_000, dtype="<f4").tobytes()
    held = SourceRange(file=0, offset=0, length=len(source))
    values = ValueMap(operation=Operation.CAST, source=FLOAT32, target=NUMBER_KINDS["float16"])
    prediction = Prediction(ranges=(held,), values=values)

    def read(_file: int, offset: int, length: int) -> bytes:
        return source[offset : offset + length]

    numbers, leans = prediction.read_leaning(0, prediction.length, read)
    assert numbers == prediction.read(0, prediction.length, read)
    assert leans == values.apply_leaning(source, 0)[1]
    for first, count in ((0, 1), (65_535, 3), (199_993, 7), (5, 0)):
        found = prediction.read_leaning(2 * first, 2 * count, read)
        assert found == (numbers[2 * first :][: 2 * count], leans[first:][:count])
