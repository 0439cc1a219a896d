"""FORMAT.md is enough for every prediction: those that our encoder never makes agree too.

A residual whose only symbol is the difference 0 makes its prediction, byte for byte.
"""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from edge_sdk.delta import coder
from edge_sdk.delta.coder.tables import CodeTable, Table, pack
from edge_sdk.delta.numeric import KINDS as ELEMENTS
from edge_sdk.delta.varint import varints
from tests.independent_decoder.decode import decode
from tests.independent_decoder.floats import cast
from tests.independent_decoder.leans import SIZES, size
from tests.independent_decoder.predictions import Prediction
from tests.support.deltas import EDGE_BITS, Crafted, bits_dtype, decoded, file_ref, place

RESIDUAL = 4
# Element kind int8, model 0, one class, level and table, r = 0; its one symbol is 0.
NO_DIFFERENCE = bytes([0, 0, 0, 0, 8])
# One lane, its state 2^16, no words, no raw bits.
NOTHING_CODED = bytes([0]) + (1 << 16).to_bytes(4, "little")
KINDS = {4: "float16", 5: "bfloat16", 6: "float32", 7: "float64"}
KINDS |= {0: "int8", 1: "int16", 8: "int8", 9: "int16"}
FLOATS, INTEGERS = [4, 5, 6, 7], [0, 1, 8, 9]
MANTISSAS = {4: 10, 5: 7, 6: 23, 7: 52}
BY_LEAN = 4


def zigzag(number: int) -> int:
    return 2 * number if number >= 0 else -2 * number - 1


def numbers(kind: int, count: int, chance: random.Random) -> bytes:
    """Any bit patterns, many of them those at which arithmetic could go wrong."""
    dtype = bits_dtype(KINDS[kind])
    width = 8 * dtype.itemsize
    found = [
        chance.choice([*EDGE_BITS[KINDS[kind]], chance.getrandbits(width)]) for _ in range(count)
    ]
    if kind in FLOATS:
        plain = np.array([chance.gauss(0, 3) for _ in range(count)])
        wide = plain.astype("<f4").view("<u4") >> 16 if kind == 5 else None
        bits = plain.astype(KINDS[kind]).view(dtype) if wide is None else wide.astype(dtype)
        found = [
            bit if chance.random() < 0.5 else one for bit, one in zip(bits, found, strict=True)
        ]
    return np.array(found, dtype).tobytes()


def strided(chance: random.Random, size: int) -> tuple[bytes, int]:
    """A range anywhere in a source file of ``size`` bytes, and the bytes it yields."""
    run = chance.choice([1, 1, 2, 4, 8, 9])
    low, high, dimensions = 0, run, []
    for _ in range(chance.randrange(5)):
        count, stride = chance.choice([1, 2, 3, 5]), chance.randrange(-60, 61)
        reach = (count - 1) * stride
        if high - low + abs(reach) < size and nested([*dimensions, (count, stride)]):
            low, high = low + min(reach, 0), high + max(reach, 0)
            dimensions.append((count, stride))
    offset = chance.randrange(-low, size - high + 1)
    parts = [number for count, stride in dimensions for number in (count, zigzag(stride))]
    total = run * int(np.prod([count for count, _ in dimensions], dtype=int))
    return varints(0, offset, run) + varints(len(dimensions), *parts), total


def nested(dimensions: list[tuple[int, int]]) -> bool:
    """Whether each stride reaches over all that are smaller."""
    steps = sorted((abs(stride), count) for count, stride in dimensions if count > 1 and stride)
    inner = itertools.accumulate(((count - 1) * step for step, count in steps), initial=0)
    return all(step > reach for (step, _), reach in zip(steps, inner, strict=False))


def agreed(prediction: bytes, source: bytes, position: int = 0) -> bytes:
    """What both decoders make of it from ``position`` on, all in one record."""
    length = Prediction(prediction, [source], maps=True).length - position
    made = Prediction(prediction, [source], maps=True).read(position, length)
    body = varints(0, position, 8, 0, 0) + NOTHING_CODED
    delta = (
        Crafted(targets=[file_ref("t", made)], sources=[file_ref("s", source)], mapped=True)
        .table(varints(0) + prediction)
        .table(varints(8) + NO_DIFFERENCE)
        .data(RESIDUAL, place(length), body)
        .build()
    )
    assert decoded(delta, [source]) == [made]
    assert decode(delta, [source]) == {"t": made}
    return made


@pytest.mark.parametrize("seed", range(60))
def test_strided_ranges_agree(seed: int) -> None:
    """Ranges with any dimensions and strides, negative ones and none, and several of them."""
    chance = random.Random(seed)
    source = chance.randbytes(1200)
    ranges = [strided(chance, len(source)) for _ in range(chance.randint(1, 5))]
    heads = b"".join(data for data, _ in ranges)
    total = sum(count for _, count in ranges)
    prediction = varints(len(ranges)) + heads + varints(0, 0, 0, 0)
    agreed(prediction, source, chance.randrange(total))


def listed(kind: int, count: int, chance: random.Random, before: bytes) -> tuple[bytes, bytes]:
    """A list of numbers in form 1 or 2 (in the source, behind ``before``), and the source."""
    values = numbers(kind, count, chance)
    if chance.random() < 0.5:
        return varints(1, kind) + values, before
    where = varints(2, kind, 0, len(before), len(values), 0)
    return where, before + values


@pytest.mark.parametrize(("kind", "target"), list(itertools.permutations(FLOATS, 2)))
def test_casts_of_any_bits_agree(kind: int, target: int) -> None:
    """Every pair of floats, with NaNs, infinities and subnormal numbers."""
    source = numbers(kind, 3000, random.Random(kind))
    head = varints(1, 0, 0, len(source), 0, 0, 0)
    agreed(head + varints(1, 2, kind, target), source, position=3)


@pytest.mark.parametrize("kinds", list(itertools.product(FLOATS, repeat=3)))
def test_every_width_of_factors_agrees(kinds: tuple[int, int, int]) -> None:
    """Scaled from each kind to each with factors of each, also where all have 64 bits."""
    kind, target, factors = kinds
    chance = random.Random(1)
    source = numbers(kind, 900, chance)
    more, source = listed(factors, 300, chance, source)
    parameters = varints(kind, target, 2, 300) + more
    head = varints(1, 0, 0, 900 * bits_dtype(KINDS[kind]).itemsize, 0, 0, 0)
    agreed(head + varints(2, len(parameters)) + parameters, source)


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize("seed", range(40))
def test_value_maps_of_any_bits_agree(number: int, seed: int) -> None:
    """Every pair of kinds, kind of factors and of zero points, in each form of a list."""
    chance = random.Random(seed)
    kind = chance.choice(INTEGERS if number == 4 else FLOATS)
    target = chance.choice(INTEGERS if number == 3 else FLOATS)
    source = numbers(kind, 900, chance)
    head = varints(1, 0, 0, len(source), 0, 0, 0)
    channels = chance.choice([1, 2, 7, 300])
    inner = chance.choice([1, 3, 250, 1 << 40])
    parameters = varints(kind, target, inner, channels)
    more, source = listed(chance.choice(FLOATS), channels, chance, source)
    parameters += more
    if number > 2:
        more, source = listed(chance.choice(INTEGERS), channels, chance, source)
        parameters += b"\0" if chance.random() < 0.3 else more
    prediction = head + varints(number, len(parameters)) + parameters
    agreed(prediction, source, position=chance.randrange(20))


def component(rows: int, columns: int, chance: random.Random) -> str:
    """The bits of one, the first one first: a weight and both sides."""
    bits = format(chance.randrange(5), "04b")[::-1]
    for count in (rows, columns):
        most = chance.choice([1, 20, 256])
        folded = [chance.randrange(most) for _ in range(count)]
        low = min(range(8), key=lambda b: sum(b + (one >> b) for one in folded))
        bits += format(low, "03b")[::-1]
        bits += "".join(format(one, "08b")[::-1][:low] for one in folded)
        bits += "".join("0" * (one >> low) + "1" for one in folded)
    return bits


def components(rows: int, columns: int, rank: int, chance: random.Random) -> bytes:
    """Those of a low rank, packed."""
    bits = "".join(component(rows, columns, chance) for _ in range(rank))
    return int(bits[::-1], 2).to_bytes(-(-len(bits) // 8), "little")


@pytest.mark.parametrize("seed", range(40))
def test_maps_of_low_rank_agree(seed: int) -> None:
    """Every pair of kinds, any steps and factors, numbers with any bits."""
    chance = random.Random(seed)
    kind = chance.choice([*INTEGERS, 4, 5, 6])
    target = kind if kind in INTEGERS else chance.choice([4, 5, 6])
    rows, columns, rank = (chance.choice([1, 2, 9, 40]) for _ in range(3))
    rank = min(rank, 8)
    source = numbers(kind, rows * columns, chance)
    step = chance.choice([numbers(6, 1, chance), np.float32(chance.gauss(0, 1)).tobytes()])
    packed = components(rows, columns, rank, chance)
    gain = chance.choice(
        [numbers(6, 1, chance), np.float32(1).tobytes(), np.float32(0.9).tobytes()]
    )
    parameters = varints(kind, target, rows, columns, rank) + gain + step + packed
    prediction = varints(1, 0, 0, len(source), 0, 0, 0, 5, len(parameters)) + parameters
    agreed(prediction, source, position=chance.randrange(rows * columns))


@pytest.mark.parametrize("seed", range(30))
def test_texts_agree(seed: int) -> None:
    """Bytes written as text, whole and damaged, from several ranges, cut anywhere."""
    chance = random.Random(seed)
    pieces = [
        chance.choice([chance.randbytes(20).decode("latin-1").encode(), chance.randbytes(9)])
        for _ in range(20)
    ]
    source = b"".join(pieces)
    ranges = [(chance.randrange(len(source)), chance.randint(1, 80)) for _ in range(3)]
    heads = [varints(0, at, min(size, len(source) - at), 0) for at, size in ranges]
    total = sum(min(size, len(source) - at) for at, size in ranges)
    prediction = varints(len(heads)) + b"".join(heads) + varints(0, 0, 6, 0)
    agreed(prediction, source, position=chance.randrange(total))


def all_symbols(element: int, chance: random.Random) -> CodeTable:
    """By lean: a table of its own for each class, so that no key can be another unnoticed."""
    kind = ELEMENTS[element]
    width = 8 * kind.width_bytes
    keys = range(1, 256 if kind.is_float else 17)
    bounds = sorted(chance.sample(keys, min(len(keys), 24)))
    raw, high = max(0, width - 16), min(width, 16)
    symbols = (*range(31 + 8 * (high - 5)), 32 + 8 * (high - 5))
    tables = []
    for number in range(len(bounds) + 1):
        frequencies = [1] * len(symbols)
        frequencies[number] = 4097 - len(symbols)
        tables.append(Table(shift=raw, symbols=symbols, frequencies=tuple(frequencies)))
    return CodeTable(
        kind=kind,
        model=BY_LEAN,
        bounds=tuple(bounds),
        levels=1,
        cells=tuple(range(len(tables))),
        tables=tuple(tables),
        level_tables=(),
    )


def lean_bytes(leans: np.ndarray) -> np.ndarray:
    """As our coder wants them: the size, and 128 where it is below 0."""
    return (size(leans) | np.where(leans < 0, 0x80, 0)).astype(np.uint8)


def by_lean(prediction: bytes, source: bytes, width: int, chance: random.Random) -> np.ndarray:
    """Both decoders make what our coder coded with the leans of this one: all elements differ
    from their prediction, so no lean can have the other sign, nor another size, unnoticed."""
    made = Prediction(prediction, [source], maps=True)
    total = made.length // width
    phase = chance.randrange(width)
    first = chance.randrange(1, 3) if phase else chance.randrange(2)
    behind = chance.randrange(2)
    count, tail = total - first - behind, chance.randrange(width) if behind else 0
    raw, leans = made.read_leaning(first * width, count * width, 0, width)
    dtype = np.dtype(f"<u{width}")
    before = np.frombuffer(raw, dtype)
    moves = [chance.choice([-1, 1]) * chance.choice([1, 2, 9, 120]) for _ in before]
    after = before + np.array(moves, np.int64).astype(dtype)
    elements = {1: [0], 2: [1, 4, 5], 4: [2, 6], 8: [3, 7]}[width]
    code = all_symbols(chance.choice(elements), chance)
    lanes = chance.choice([0, 3, 5])
    coded = coder.encode(code, before, after, None, 1 << lanes, leans=lean_bytes(leans))
    assert coded is not None
    edges = chance.randbytes(phase), chance.randbytes(tail)
    target = edges[0] + after.tobytes() + edges[1]
    body = varints(0, first * width - phase, 8, phase, lanes) + b"".join(edges) + coded
    delta = (
        Crafted(targets=[file_ref("t", target)], sources=[file_ref("s", source)], mapped=True)
        .table(varints(0) + prediction)
        .table(varints(8) + pack(code))
        .data(RESIDUAL, place(len(target)), body)
        .build()
    )
    return delta, target, leans


def near_floats(kind: int, target: int, count: int, chance: random.Random) -> bytes:
    """Floats that lie as far from those of another kind as lean sizes begin, and by a bit more
    or less; ties among them, and whatever is special in either kind."""
    middle = kind if 6 in (kind, target) else 6
    more = MANTISSAS[middle] - MANTISSAS[target]
    base = cast(
        np.frombuffer(numbers(target, count, chance), bits_dtype(KINDS[target])),
        *((target, middle)),
    )
    if more > 0:
        places = [0, *(int(one * 2**more) for one in SIZES)]
        steps = [
            chance.choice([-1, 1]) * (chance.choice(places) + chance.choice([-1, 0, 0, 1]))
            for _ in base
        ]
        base = base + np.array(steps, np.int64).astype(base.dtype)
    found = cast(base, middle, kind)
    return found.tobytes() + numbers(kind, count, chance)


def near_integers(kind: int, count: int, chance: random.Random) -> bytes:
    """Floats that lie as far from integers, and some where rounding has an end."""
    found = []
    for _ in range(count):
        whole = chance.choice([0.0, -0.0, 1.0, chance.randrange(-300, 300), 131071.0, 131072.0])
        part = chance.choice([0, 0, 1, -1]) * chance.choice(SIZES)
        found.append(chance.choice([-1, 1]) * np.float32(whole + part))
    y = np.array(found, np.float32)
    toward = np.array([chance.choice([-np.inf, np.inf]) for _ in found], np.float32)
    y = np.where([chance.random() < 0.5 for _ in found], np.nextafter(y, toward), y)
    wide = cast(y.astype(np.float32).view(np.uint32), 6, kind)
    return wide.tobytes() + numbers(kind, count, chance)


def whole_range(source: bytes, number: int, parameters: bytes) -> bytes:
    """A prediction of all of it, through a value map."""
    return varints(1, 0, 0, len(source), 0, 0, 0, number, len(parameters)) + parameters


LEANING = [(1, *pair) for pair in itertools.permutations(FLOATS, 2)]
LEANING += [(2, *pair) for pair in itertools.product(FLOATS, repeat=2)]
LEANING += [(3, *pair) for pair in itertools.product(FLOATS, INTEGERS)]
LEANING += [(4, *pair) for pair in itertools.product(INTEGERS, FLOATS)]
LEANING += [(5, *pair) for pair in itertools.product(FLOATS[:3], repeat=2)]
LEANING += [(5, kind, kind) for kind in INTEGERS]


@pytest.mark.parametrize(("number", "kind", "target"), LEANING)
def test_leans_agree(number: int, kind: int, target: int) -> None:
    """Every value map that has leans, between all of its kinds."""
    chance = random.Random(f"{number} {kind} {target}")
    count = 400
    if kind in INTEGERS:
        source = numbers(kind, 2 * count, chance)
    elif target in INTEGERS:
        source = near_integers(kind, count, chance)
    else:
        source = near_floats(kind, target, count, chance)
    parameters = varints(kind, target)
    if number == 5:
        steps = np.array([1, 0 if kind == 6 else 1 / 512], "<f4").tobytes()
        parameters += varints(20, count // 10, 6) + steps + components(20, count // 10, 6, chance)
    elif number == 4:
        factors = near_floats(6, target, count, chance) if target in (4, 5) else None
        factors = factors or numbers(6, 2 * count, chance)
        parameters += varints(1, 2 * count, 1, 6) + factors
        dtype = bits_dtype(KINDS[kind])
        points = np.frombuffer(source, dtype) - np.ones(1, dtype)
        parameters += varints(1, kind) + points.astype(dtype).tobytes()
    elif number > 1:
        factors = np.array([1, -1, 1e-3, 1], "<f4")
        parameters += varints(100, 4, 1, 6) + factors.tobytes()
    if number == 3:
        parameters += varints(0) if target == 9 else varints(1, 0) + bytes([0, 0, 3, 255])
    width = bits_dtype(KINDS[target]).itemsize
    prediction = whole_range(source, number, parameters)
    delta, target_bytes, leans = by_lean(prediction, source, width, chance)
    assert decode(delta, [source]) == {"t": target_bytes}
    assert decoded(delta, [source]) == [target_bytes]
    middle = kind if number == 1 and 6 in (kind, target) else 6
    wider = target in FLOATS and MANTISSAS[middle] > MANTISSAS[target]
    assert leans.any() == (target in INTEGERS or wider)
    if number < 5 and kind not in (4, 5) and leans.any():
        assert set(size(leans)) == set(range(16))
