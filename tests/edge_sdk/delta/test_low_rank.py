"""Low-rank value maps: exact sums, and each number made as FORMAT.md says."""

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import DeltaError, Digest
from edge_sdk.delta import FileRef, coder
from edge_sdk.delta.low_rank import (
    FACTORS_MAX,
    LowRank,
    _parse_factors,
    factors_bits,
    parse_low_rank,
    put_low_rank,
)
from edge_sdk.delta.prediction import (
    MAP_PARAMETERS_BYTES_MAX,
    Prediction,
    SourceRange,
    parse_prediction,
    put_prediction,
)
from edge_sdk.delta.value_maps import NUMBER_KINDS
from edge_sdk.delta.varint import Cursor, varints

INT8 = NUMBER_KINDS["int8"]
FLOAT32 = NUMBER_KINDS["float32"]
BFLOAT16 = NUMBER_KINDS["bfloat16"]


def low_rank(
    left: Sequence[Sequence[int]],
    right: Sequence[Sequence[int]],
    *,
    kind: str = "float32",
    made: str | None = None,
    gain: float = 1.0,
    step: float = 1.0,
    shifts: Sequence[int] | None = None,
) -> LowRank:
    return LowRank(
        source=NUMBER_KINDS[kind],
        target=NUMBER_KINDS[made or kind],
        rows=len(left[0]),
        columns=len(right[0]),
        gain=np.float32(gain),
        step=np.float32(step),
        shifts=tuple(shifts or [0] * len(left)),
        left=np.array(left, np.int8).tobytes(),
        right=np.array(right, np.int8).tobytes(),
    )


def reparsed(one: LowRank) -> LowRank:
    return parse_low_rank(Cursor(put_low_rank(one), "a map"))


@settings(max_examples=60)
@given(data=st.data())
def test_packed_maps_come_back(data: st.DataObject) -> None:
    """Any factors and weights, and as many bits as were foretold."""
    rows, columns, rank = (data.draw(st.integers(1, most)) for most in (9, 9, 4))
    bound = data.draw(st.sampled_from([0, 1, 7, 127]))

    def side(count: int) -> list[list[int]]:
        line = st.lists(st.integers(-bound - 1, bound), min_size=count, max_size=count)
        return [data.draw(line) for _ in range(rank)]

    shifts = [data.draw(st.integers(0, 8)) for _ in range(rank)]
    one = low_rank(side(rows), side(columns), shifts=shifts, gain=0.75, step=0.125)
    assert reparsed(one) == one
    head = len(varints(6, 6, rows, columns, rank)) + 8
    assert len(put_low_rank(one)) == head + -(-(factors_bits(one) + 4 * rank) // 8)


def test_sums_are_exact_at_their_largest() -> None:
    """All weights together times the largest factors are 2**24, to the last unit."""
    extreme = low_rank([[-128]] * 32, [[-128, 127]] * 32, shifts=[5] * 32)
    found = np.frombuffer(extreme.apply(np.zeros(2, "<f4").tobytes(), 0), "<f4")
    assert found.tolist() == [2.0**24, -(2.0**24) + 2**17]
    assert reparsed(extreme) == extreme


@pytest.mark.parametrize("start", [0, 1, 5, 6, 7, 17])
def test_any_numbers_of_a_matrix_are_made_alone(start: int) -> None:
    """From any place on, row by row."""
    left, right = [[1, 2, 3], [5, -7, 0]], [[1, 10, 100, 0, -1, 2], [1, 1, 1, 1, 1, 1]]
    one = low_rank(left, right, step=0.5, shifts=[0, 1])
    wanted = (np.outer(left[0], right[0]) + 2 * np.outer(left[1], right[1])).reshape(-1) / 2
    for end in range(start + 1, 19):
        data = np.ones(end - start, "<f4").tobytes()
        assert np.frombuffer(one.apply(data, start), "<f4").tolist() == [
            1 + number for number in wanted[start:end]
        ]


@pytest.mark.parametrize(("rows", "columns", "rank"), [(3, 50000, 5), (700, 90, 24), (9, 2000, 3)])
def test_products_made_in_parts_are_all_there(rows: int, columns: int, rank: int) -> None:
    """Matrices wider, or higher, than what is multiplied at once."""
    chance = np.random.default_rng(rows)
    left = chance.integers(-127, 128, (rank, rows))
    right = chance.integers(-127, 128, (rank, columns))
    made = low_rank(left.tolist(), right.tolist()).apply(bytes(4 * rows * columns), 0)
    assert (np.frombuffer(made, np.float32) == (left.T @ right).reshape(-1)).all()


def test_floats_round_once_for_each_operation() -> None:
    """The step's product is rounded, then the sum, then the cast; halves go to even."""
    third = np.float32(1 / 3)
    one = low_rank([[3]], [[1, 5]], step=third)
    x = np.array([1.0, 2.0**20], "<f4")
    wanted = [x[0] + np.float32(3) * third, x[1] + np.float32(15) * third]
    assert np.frombuffer(one.apply(x.tobytes(), 0), "<f4").tolist() == wanted
    halves = low_rank([[1]], [[1, 3]], kind="bfloat16", step=2.0**-8)
    units = np.array([0x3F80, 0x3F80], "<u2")  # 1.0: the next is 2**-7 away
    assert np.frombuffer(halves.apply(units.tobytes(), 0), "<u2").tolist() == [0x3F80, 0x3F82]


def test_the_gain_is_a_product_of_its_own() -> None:
    """Rounded before the step is added; of integers too, which are rounded to whole ones last."""
    gain, x = np.float32(0.9), np.array([1.1, -3.3], "<f4")
    found = np.frombuffer(low_rank([[1]], [[2, -2]], gain=0.9).apply(x.tobytes(), 0), "<f4")
    assert found.tolist() == [x[0] * gain + np.float32(2), x[1] * gain - np.float32(2)]
    whole = low_rank([[1]], [[1, 1, 1]], kind="int8", gain=0.5, step=0.25)
    assert np.frombuffer(whole.apply(bytes([5, 100, 250]), 0), "<i1").tolist() == [3, 50, -3]


def test_another_width_may_be_made() -> None:
    """The sum in float32 is cast once."""
    one = low_rank([[1]], [[1, 1]], made="float16", step=0.25)
    x = np.array([1.0, 65504.0], "<f4")
    assert np.frombuffer(one.apply(x.tobytes(), 0), "<f2").tolist() == [1.25, 65504.0]


def test_what_is_no_number_is_canonical() -> None:
    """NaN of the source, of the step and of infinities that meet."""
    x = np.array([0xFFC12345, 0x7F800000, 0xFF800000, 0x7F800001], "<u4")
    moved = np.frombuffer(low_rank([[1]], [[1] * 4]).apply(x.tobytes(), 0), "<u4")
    assert moved.tolist() == [0x7FC00000, 0x7F800000, 0xFF800000, 0x7FC00000]
    endless = low_rank([[1]], [[1, -1, -1, 0]], step=float("inf"))
    moved = np.frombuffer(endless.apply(x.tobytes(), 0), "<u4")
    assert moved.tolist() == [0x7FC00000, 0x7FC00000, 0xFF800000, 0x7FC00000]


@pytest.mark.parametrize(
    ("kind", "numbers", "wanted"),
    [
        ("int8", [0, 0, 0, 127, -128], [0, 2, 2, 127, -128]),
        ("uint8", [0, 0, 254, 255, 0], [0, 2, 255, 255, 0]),
        ("int16", [0, 0, 0, 32767, -32768], [0, 2, 2, 32767, -32768]),
        ("uint16", [0, 0, 0, 65535, 0], [0, 2, 2, 65535, 0]),
    ],
)
def test_integers_round_to_even_and_saturate(
    kind: str, numbers: list[int], wanted: list[int]
) -> None:
    """Halves of steps, and the ends of each kind."""
    one = low_rank([[1]], [[1, 3, 4, 5, -5]], kind=kind, step=0.5)
    storage = NUMBER_KINDS[kind].storage
    made = one.apply(np.array(numbers, storage).tobytes(), 0)
    assert np.frombuffer(made, storage).tolist() == wanted


def test_integers_have_bounds_and_no_nan() -> None:
    """What has no end goes to the end of the kind, what is no number is 0."""
    one = low_rank([[1]], [[1, -1, 0]], kind="int8", step=float("inf"))
    assert np.frombuffer(one.apply(bytes([5, 5, 5]), 0), "<i1").tolist() == [127, -128, 0]


def test_predictions_hold_them_and_read_anywhere() -> None:
    """As a prediction's value map, parsed again; numbers that borders cut too."""
    one = low_rank([[1, 2]], [[3, 4, 5]], kind="bfloat16", step=1.0)
    source = np.arange(6, dtype="<u2").tobytes()
    files = (FileRef(path="s", size_bytes=len(source), digest=Digest(bytes(32))),)
    held = SourceRange(file=0, offset=0, length=len(source))
    body = put_prediction(Prediction(ranges=(held,), values=one))
    prediction = parse_prediction(Cursor(body, "a table"), files)
    assert prediction.values == one
    assert not prediction.is_plain

    def read(_file: int, offset: int, length: int) -> bytes:
        return source[offset : offset + length]

    whole = prediction.read(0, 12, read)
    assert whole == one.apply(source, 0)
    assert [prediction.read(at, 3, read) for at in range(9)] == [
        whole[at : at + 3] for at in range(9)
    ]
    short = put_prediction(
        Prediction(ranges=(SourceRange(file=0, offset=0, length=10),), values=one)
    )
    with pytest.raises(DeltaError, match="has 5 numbers; its map has 6"):
        parse_prediction(Cursor(short, "a table"), files)


GOOD = put_low_rank(low_rank([[1, 2]], [[3, 4, 5]], kind="int8"))


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        (varints(7, 7, 2, 3, 1) + GOOD[5:], "makes float64 of float64"),
        (varints(0, 6, 2, 3, 1) + GOOD[5:], "makes float32 of int8"),
        (varints(0, 8, 2, 3, 1) + GOOD[5:], "makes uint8 of int8"),
        (varints(11, 0, 2, 3, 1) + GOOD[5:], "kind 11"),
        (varints(0, 0, 0, 3, 1) + GOOD[5:], "0 rows"),
        (varints(0, 0, 2, 0, 1) + GOOD[5:], "0 columns"),
        (varints(0, 0, 2, 65537, 1) + GOOD[5:], "65537 columns"),
        (varints(0, 0, 2, 3, 0) + GOOD[5:], "rank 0"),
        (varints(0, 0, 2, 3, 33) + GOOD[5:], "rank 33"),
        (varints(0, 0, FACTORS_MAX // 2 - 2, 3, 2) + GOOD[5:], "more than 262144 factors"),
        (GOOD[:12], "too early"),
        (GOOD[:13], "ends within the factors"),
        (GOOD[:-1], "ends within the factors"),
        (GOOD + b"\0", "behind the factors"),
        (GOOD[:-1] + bytes([GOOD[-1] | 0x80]), "behind the factors"),
        (GOOD[:13] + bytes([GOOD[13] & 0xF0 | 0x0B]) + GOOD[14:], "weigh too much"),
        (varints(0, 0, 1, 1, 1) + bytes(8) + bytes([0x10, 0x0A]), "fewer bits otherwise"),
        # One factor of no low bits, and 256 zeros before its one.
        (varints(0, 0, 1, 1, 1) + bytes(8) + bytes(33) + b"\xff", "too large"),
    ],
)
def test_what_breaks_a_rule_is_refused(parameters: bytes, problem: str) -> None:
    """Kinds, sizes, weights, bits that are missing or left."""
    with pytest.raises(DeltaError, match=problem):
        parse_low_rank(Cursor(parameters, "a map"))


@settings(max_examples=60)
@given(data=st.data())
def test_factors_are_parsed_by_the_kernel_as_in_python(data: st.DataObject) -> None:
    """Whole ones come back; of changed, cut and longer bits each is taken by both or none."""
    rows, columns, rank = (data.draw(st.integers(1, most)) for most in (70, 9, 3))
    bound = data.draw(st.sampled_from([0, 1, 7, 40, 127]))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    left, right = (random.integers(-bound - 1, bound + 1, (rank, n)) for n in (rows, columns))
    whole = put_low_rank(low_rank(left.tolist(), right.tolist()))
    bits = bytearray(whole[len(varints(6, 6, rows, columns, rank)) + 8 :])

    def parsed() -> object:
        try:
            return _parse_factors(Cursor(b"", "a map"), memoryview(bits), rows, columns, rank)
        except DeltaError:
            return None

    assert parsed() == ((0,) * rank, left.astype("i1").tobytes(), right.astype("i1").tobytes())
    for _ in range(data.draw(st.integers(0, 2))):
        bits[data.draw(st.integers(0, len(bits) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    bits = bits[: data.draw(st.integers(0, len(bits)))] if data.draw(st.booleans()) else bits
    bits += data.draw(st.binary(max_size=1))
    found = coder.factors(bytes(bits), rows, columns, rank)
    assert found == (parsed() if coder.KERNEL == "c" else None)


def test_the_largest_map_is_taken() -> None:
    """As many factors as there may be, in the parameters that there may be."""
    random = np.random.default_rng(1)
    rows = FACTORS_MAX // 32 - 4096
    left = random.integers(-128, 128, (32, rows))
    right = random.integers(-128, 128, (32, 4096))
    one = low_rank(left.tolist(), right.tolist(), kind="int8", shifts=[5] * 32)
    source = FileRef(path="s", size_bytes=one.count, digest=Digest(bytes(32)))
    held = SourceRange(file=0, offset=0, length=one.count)
    body = put_prediction(Prediction(ranges=(held,), values=one))
    assert parse_prediction(Cursor(body, "a table"), (source,)).values == one


@pytest.mark.parametrize(("rows", "rank"), [(FACTORS_MAX - 1, 1), (4096, 32)])
def test_hostile_factors_take_bounded_memory(rows: int, rank: int) -> None:
    """As many bits as parameters may have, all of them ends of numbers: memory stays small."""
    columns = FACTORS_MAX // rank - rows
    head = varints(6, 6, rows, columns, rank) + np.float32(1).tobytes()
    parameters = head + bytes([0]) + b"\xff" * (MAP_PARAMETERS_BYTES_MAX - 40)
    tracemalloc.start()
    try:
        with pytest.raises(DeltaError, match="fewer bits otherwise"):
            parse_low_rank(Cursor(parameters, "a map"))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20
