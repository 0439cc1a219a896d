"""FORMAT.md says where predictions end: at each limit both decoders take or refuse alike."""

from __future__ import annotations

import random

import pytest

from edge_sdk.delta.varint import varints
from tests.independent_decoder.agreement import damaged, taken
from tests.independent_decoder.predictions import Prediction
from tests.independent_decoder.test_predictions import (
    FLOATS,
    INTEGERS,
    NO_DIFFERENCE,
    NOTHING_CODED,
    component,
    listed,
    numbers,
    strided,
)
from tests.independent_decoder.value_maps import DEQUANTISE, QUANTISE, SCALE
from tests.support.deltas import Crafted, file_ref, place

RESIDUAL, PLANES = 4, 5
FAR = 20000


def crafted(prediction: bytes, source: bytes, target: bytes, position: int = 0) -> Crafted:
    """One record that takes the target's bytes of a prediction."""
    return (
        Crafted(targets=[file_ref("t", target)], sources=[file_ref("s", source)], mapped=True)
        .table(varints(0) + prediction)
        .table(varints(8) + NO_DIFFERENCE)
        .data(RESIDUAL, place(len(target)), varints(0, position, 8, 0, 0) + NOTHING_CODED)
    )


def packed(bits: str) -> bytes:
    return int("0" + bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")


@pytest.mark.parametrize("runs", [1, 64, 67, 68, 69, 70])
@pytest.mark.parametrize("run", [1, 16, 17])
@pytest.mark.parametrize("plain", [0, 1, 60])
def test_work_is_counted_alike(runs: int, run: int, plain: int) -> None:
    """Scattered runs, alone and behind ranges that are taken whole, or not at all."""
    source = random.Random(1).randbytes(FAR * runs + run)
    head = varints(plain + 1) + varints(0, 5, 1, 0) * plain
    prediction = head + varints(0, 0, run, 1, runs, 2 * FAR, 0, 0, 0, 0)
    scattered = b"".join(source[FAR * number :][:run] for number in range(runs))
    whole = source[5:6] * plain + scattered
    expected = runs + plain <= 64 + len(whole) // 16
    assert taken(crafted(prediction, source, whole).build(), [source]) == expected
    alone = runs <= 64 + len(scattered) // 16
    assert taken(crafted(prediction, source, scattered, plain).build(), [source]) == alone


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(40))
def test_damaged_predictions_agree(number: int, seed: int) -> None:
    """One bit turned anywhere in a prediction with several ranges and any of the older maps."""
    chance = random.Random(seed)
    kind = chance.choice(INTEGERS if number == DEQUANTISE else FLOATS)
    target = chance.choice(INTEGERS if number == QUANTISE else FLOATS)
    source = numbers(kind, 900, chance)
    parameters = varints(kind, target) if number else b""
    if number >= SCALE:
        channels = chance.choice([1, 2, 7])
        more, source = listed(chance.choice(FLOATS), channels, chance, source)
        parameters += varints(chance.choice([1, 3]), channels) + more
    if number >= QUANTISE:
        more, source = listed(chance.choice(INTEGERS), channels, chance, source)
        parameters += more
    ranges = [strided(chance, len(source))[0] for _ in range(chance.randint(1, 3))]
    head = varints(len(ranges)) + b"".join(ranges) + varints(0, 0, number, len(parameters))
    prediction = head + parameters
    for _ in range(5):
        turned = damaged(prediction, chance.randrange(8 * len(prediction)))
        try:
            made = Prediction(turned, [source], maps=True)
            position = chance.randrange(min(made.length, 1000))
            part = made.read(position, min(made.length - position, 5000))
        except ValueError:
            position, part = 0, b"abc"
        taken(crafted(turned, source, part, position).build(), [source])


@pytest.mark.parametrize("pages", [129, 130])
def test_near_runs_are_gathered_by_pages(pages: int) -> None:
    """Each page of 16 KiB is one read, whatever the runs; 1040 bytes may take 129 of them."""
    count = 128 * pages
    source = random.Random(1).randbytes(128 * count)
    prediction = varints(1, 0, 0, 1, 1, count, 256, 0, 0, 0, 0)
    few, many = source[: 128 * 129 : 128], source[: 128 * 1040 : 128]
    assert not few[129:]
    assert taken(crafted(prediction, source, few[:64]).build(), [source])
    assert not taken(crafted(prediction, source, few).build(), [source])
    assert taken(crafted(prediction, source, many).build(), [source]) == (pages <= 129)


@pytest.mark.parametrize(("count", "good"), [(82, True), (83, True), (84, False)])
@pytest.mark.parametrize("model", [0, 4])
def test_edges_are_work_too(count: int, good: bool, model: int) -> None:
    """In model 4 as in others: each number is a run of its own, the two that are cut as well."""
    source = bytes(FAR * 100 + 4)
    prediction = varints(1, 0, 0, 4, 1, 101, 2 * FAR, 0, 0, 1, 2, 6, 4)
    # Element kind float16, one class, level and table, no raw bits: the one symbol is 0.
    table = packed(f"{4:03b}"[::-1] + f"{model:03b}"[::-1] + "0" * 29 + "1")
    target = bytes(2 * count + 2)
    delta = (
        Crafted(targets=[file_ref("t", target)], sources=[file_ref("s", source)], mapped=True)
        .table(varints(0) + prediction)
        .table(varints(8) + table)
        .data(RESIDUAL, place(len(target)), varints(0, 1, 8, 1, 0) + bytes(2) + NOTHING_CODED)
    )
    assert taken(delta.build(), [source]) == good


@pytest.mark.parametrize("channels", [255, 256, 257])
def test_lists_have_a_work(channels: int) -> None:
    """Factors that lie far from each other in the source."""
    source = bytearray(random.Random(1).randbytes(FAR * channels + 4))
    for at in range(0, FAR * channels, FAR):
        source[at : at + 4] = b"\0\0\x80\x3f"
    where = varints(2, 6, 0, 0, 4, 1, channels, 2 * FAR)
    parameters = varints(6, 6, 1, channels) + where
    head = varints(1, 0, 4, 8, 0, 0, 0)
    prediction = head + varints(2, len(parameters)) + parameters
    target = bytes(numbers(6, 2, random.Random(1)))
    source[4:12] = target = b"\0\0\x80\x3f\0\0\0\x40"
    found = taken(crafted(prediction, bytes(source), target).build(), [bytes(source)])
    assert found == (channels <= 256)


def side(factors: list[int], low: int) -> str:
    """One side of a component, with any number of low bits."""
    folded = [2 * one if one >= 0 else -2 * one - 1 for one in factors]
    bits = format(low, "03b")[::-1]
    bits += "".join(format(one, "016b")[::-1][:low] for one in folded)
    return bits + "".join("0" * (one >> low) + "1" for one in folded)


def low_rank(
    kinds: tuple[int, int], shape: tuple[int, int], weights: list[int], sides: list[str]
) -> bytes:
    """Parameters with a gain and step of 1."""
    rank = len(weights)
    bits = "".join(
        format(weight, "04b")[::-1] + pair for weight, pair in zip(weights, sides, strict=True)
    )
    one = b"\0\0\x80\x3f"
    return varints(*kinds, *shape, rank) + one + one + packed(bits)


def takes_low_rank(parameters: bytes, source: bytes) -> bool:
    """Whether both take it and make the same of the source's first numbers."""
    prediction = varints(1, 0, 0, len(source), 0, 0, 0, 5, len(parameters)) + parameters
    try:
        made = Prediction(prediction, [source], maps=True)
        target = made.read(0, made.length)
    except ValueError:
        target = source
    target = target[: 1 << 20]
    return taken(crafted(prediction, source, target).build(), [source])


@pytest.mark.parametrize(
    ("factors", "low"),
    [
        ([0, 0], 0),
        ([3, -2], 2),
        ([1, 0], 0),
        ([2, 2, 2], 1),
        ([127, -128], 7),
        ([0, 127], 6),
        ([40], 5),
        ([128], None),
        ([-129, 0], None),
    ],
)
def test_only_the_fewest_low_bits_are_taken(factors: list[int], low: int | None) -> None:
    """And of those that are as few the smallest; no factor is beyond a byte."""
    shape = len(factors), 1
    for said in range(8):
        pair = side(factors, said) + side([0], 0)
        found = takes_low_rank(low_rank((0, 0), shape, [0], [pair]), bytes(len(factors)))
        assert found == (said == low)


@pytest.mark.parametrize("weights", [[10], [11], [9, 9], [9, 9, 0], [5] * 32, [5] * 31 + [6]])
def test_weights_are_counted(weights: list[int]) -> None:
    """At most 1024 together, and 32 components."""
    pair = side([-128], 7) + side([-128], 7)
    found = takes_low_rank(low_rank((6, 6), (1, 1), weights, [pair] * len(weights)), bytes(4))
    assert found == (sum(1 << weight for weight in weights) <= 1024)


@pytest.mark.parametrize("rank", [0, 1, 32, 33])
def test_ranks_are_counted(rank: int) -> None:
    """From 1 to 32."""
    pair = side([1], 0) * 2
    found = takes_low_rank(low_rank((0, 0), (1, 1), [0] * rank, [pair] * rank), bytes(1))
    assert found == (1 <= rank <= 32)


@pytest.mark.parametrize(
    ("rows", "columns", "rank", "good"),
    [
        (0, 1, 1, False),
        (1, 0, 1, False),
        (1, 65536, 3, True),
        (1, 65537, 3, False),
        (1, 65535, 4, True),
        (2, 65535, 4, False),
        (262143, 1, 1, True),
        (262144, 1, 1, False),
    ],
)
def test_rows_and_columns_are_counted(rows: int, columns: int, rank: int, good: bool) -> None:
    """At least one of each, 65536 columns, and 262144 factors."""
    pair = side([0] * rows, 0) + side([0] * columns, 0)
    parameters = low_rank((0, 0), (rows, columns), [0] * rank, [pair] * rank)
    assert takes_low_rank(parameters, bytes(max(rows * columns, 1))) == good


@pytest.mark.parametrize("source", range(11))
@pytest.mark.parametrize("target", range(11))
@pytest.mark.parametrize("more", [0, 1])
def test_kinds_of_low_rank_agree(source: int, target: int, more: int) -> None:
    """Those that are refused, and a matrix that is not as long as the ranges."""
    size = {0: 1, 1: 2, 4: 2, 5: 2, 6: 4, 8: 1, 9: 2}.get(source, 8)
    pair = side([0], 0) * 2
    found = takes_low_rank(low_rank((source, target), (1, 1), [0], [pair]), bytes(size + more))
    floats, integers = (4, 5, 6), (0, 1, 8, 9)
    good = (source in floats and target in floats) or (source == target and source in integers)
    assert found == (good and not more)


@pytest.mark.parametrize("seed", range(120))
def test_damaged_low_ranks_agree(seed: int) -> None:
    """One bit of the parameters turned, or a byte behind them."""
    chance = random.Random(seed)
    kind = chance.choice([0, 8, 1, 9, 4, 5, 6])
    rows, columns, rank = (chance.choice([1, 2, 9]) for _ in range(3))
    source = numbers(kind, rows * columns, chance)
    bits = "".join(component(rows, columns, chance) for _ in range(rank))
    parameters = varints(kind, kind, rows, columns, rank) + b"\0\0\x80\x3f" + numbers(6, 1, chance)
    parameters += packed(bits)
    parameters = damaged(parameters, chance.randrange(8 * len(parameters)))
    takes_low_rank(parameters + bytes(chance.choice([0, 0, 0, 1])), source)


@pytest.mark.parametrize(("size", "good"), [(1, True), (1 << 20, True), ((1 << 20) + 1, False)])
def test_texts_have_a_length(size: int, good: bool) -> None:
    """At most 2^20 bytes, and no parameters."""
    source = b"\xc2\x80" + bytes(size)
    prediction = varints(1, 0, 0, size, 0, 0, 0, 6, 0)
    target = source[:1] if size == 1 else b"\x80" + bytes(40)
    assert taken(crafted(prediction, source, target).build(), [source]) == good
    more = varints(1, 0, 0, size, 0, 0, 0, 6, 1, 0)
    assert not taken(crafted(more, source, target).build(), [source])


def test_texts_take_all_of_their_ranges() -> None:
    """The work of a record counts them all, and so do the bytes that it may cost."""
    for runs in (60, 68, 69, 90):
        source = bytes(FAR * runs + 1)
        prediction = varints(1, 0, 0, 1, 1, runs, 2 * FAR, 0, 0, 6, 0)
        found = taken(crafted(prediction, source, bytes(3)).build(), [source])
        assert found == (runs <= 64 + runs // 16)


@pytest.mark.parametrize(("channels", "good"), [(1000, True), (40959, True), (40960, False)])
@pytest.mark.parametrize("mapped", [False, True])
def test_parameters_have_a_length(channels: int, good: bool, mapped: bool) -> None:
    """At most 320 KiB, of which factors fill all; and none where the header says no maps."""
    source = bytes(200000)
    parameters = varints(6, 6, 1, channels, 1, 7) + bytes(8 * channels)
    assert good == (len(parameters) <= 320 << 10)
    prediction = varints(1, 0, 0, len(source), 0, 0, 0, 2, len(parameters)) + parameters
    container = crafted(prediction, source, source)
    container.mapped = mapped
    assert taken(container.build(), [source]) == (good and mapped)


@pytest.mark.parametrize(("room", "good"), [(0, False), (200000, True)])
def test_records_have_a_length(room: int, good: bool) -> None:
    """Tables that are longer than twice the target and 64 KiB are not worth it."""
    source = bytes(40000 + room)
    parameters = varints(6, 6, 1, 40000, 1, 7) + bytes(8 * 40000)
    prediction = varints(1, 0, 0, len(source), 0, 0, 0, 2, len(parameters)) + parameters
    assert taken(crafted(prediction, source, source).build(), [source]) == good


@pytest.mark.parametrize("method", [RESIDUAL, PLANES])
@pytest.mark.parametrize("kind", range(8))
@pytest.mark.parametrize("model", range(8))
def test_models_of_records_agree(method: int, kind: int, model: int) -> None:
    """Which of them each method takes: one table whose only symbol is 0."""
    width, mantissa = [(8, 0), (16, 0), (32, 0), (64, 0), (16, 10), (16, 7), (32, 23), (64, 52)][
        kind
    ]
    raw = mantissa if kind > 3 and model in (1, 2) else 0
    raw = max(0, width - 8) if kind < 4 and model == 2 else raw
    bits = "".join(
        format(number, f"0{count}b")[::-1]
        for number, count in ((kind, 3), (model, 3), (0, 6), (0, 3), (0, 6), (raw, 6), (0, 8))
    )
    table = packed(bits + "1")
    count, size = 5, width // 8
    stream = bytes([0]) + (1 << 16).to_bytes(4, "little") + bytes(-(-raw * count // 8))
    source = bytes(count * size)
    head = b"" if method == PLANES else varints(0, 0)
    delta = (
        Crafted(targets=[file_ref("t", source)], sources=[file_ref("s", source)])
        .table(varints(0) + varints(1, 0, 0, len(source), 0, 0, 0, 0, 0))
        .table(varints(8) + table)
        .data(method, place(len(source)), head + varints(8, 0, 0) + stream)
    )
    planes = model == 2 or (model == 0 and kind < 4)
    good = model in (0, 1, 3) if method == RESIDUAL else planes
    assert taken(delta.build(), [source]) == (good and not (kind < 4 and model in (1, 3)))
