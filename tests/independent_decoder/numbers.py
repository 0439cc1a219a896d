"""Code tables and streams of elements, after "Elements", "Code tables" and "Streams" of
edge_sdk/delta/FORMAT.md. Like decode.py: one element after the other, nothing of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

KINDS = [(8, None), (16, None), (32, None), (64, None), (16, 10), (16, 7), (32, 23), (64, 52)]


class Reader(Protocol):
    def take(self, count: int) -> bytes: ...
    def fixed(self, count: int) -> int: ...
    def varint(self) -> int: ...
    def rest(self) -> bytes: ...


class Bits:
    """The lowest bit of the first byte first."""

    def __init__(self, data: bytes) -> None:
        self.bits = [byte >> place & 1 for byte in data for place in range(8)]
        self.at = 0

    def number(self, count: int) -> int:
        assert self.at + count <= len(self.bits)
        self.at += count
        return sum(bit << place for place, bit in enumerate(self.bits[self.at - count : self.at]))

    def gamma(self) -> int:
        zeros = 0
        while self.number(1) == 0:
            zeros += 1
            assert zeros <= 12
        value = 1
        for _ in range(zeros):
            value = 2 * value + self.number(1)
        return value

    def end(self) -> None:
        rest = self.bits[self.at :]
        assert len(rest) < 8
        assert not any(rest)


@dataclass
class Table:
    raw: int
    slots: list[tuple[int, int, int]]  # symbol, frequency, sum of those before, 4096 times


@dataclass
class Code:
    width: int
    mantissa: int | None
    model: int
    bounds: list[int]
    levels: int
    cells: list[int]
    tables: list[Table]
    level_tables: list[Table]


def code_table(body: bytes) -> Code:
    bits = Bits(body)
    width, mantissa = KINDS[bits.number(3)]
    model = bits.number(2)
    assert mantissa is not None or model in (0, 2)
    classes = bits.number(5) + 1
    assert classes == 1 or (mantissa is not None and model != 2)
    bounds = [bits.number(8) for _ in range(classes - 1)]
    assert all(low < high for low, high in zip([0, *bounds], bounds, strict=False))
    levels = bits.number(3) + 1
    assert levels == 1 or model != 2
    count = bits.number(6) + 1
    cell_bits = (count - 1).bit_length()
    cells = [bits.number(cell_bits) for _ in range(classes * levels)]
    assert list(dict.fromkeys(cells)) == list(range(count))
    tables = []
    for _ in range(count):
        raw = bits.number(6)
        assert raw < width
        if model in (1, 2):
            assert raw == (max(0, width - 8) if mantissa is None else mantissa)
        tables.append(table(bits, 8, raw, width - raw, model))
    level_tables = [table(bits, 3, 0, 0, None) for _ in range(levels if levels > 1 else 0)]
    assert all(symbol < levels for one in level_tables for symbol, _, _ in one.slots)
    bits.end()
    return Code(width, mantissa, model, bounds, levels, cells, tables, level_tables)


def table(bits: Bits, count_bits: int, raw: int, symbol_bits: int, model: int | None) -> Table:
    count = bits.number(count_bits) + 1
    most = bits.number((count - 1).bit_length())
    assert most < count
    rows = 2 if model in (0, 3) else 1
    lengths = [7] * rows
    symbols: list[int] = []
    frequencies: list[int] = []
    symbol = -1
    for number in range(count):
        symbol += bits.gamma()
        symbols.append(symbol)
        frequency = 0
        if number != most:
            step = bits.gamma()
            lengths.append(lengths[-rows] + (step // 2 if step % 2 else -(step // 2)))
            length = lengths[-1]
            assert 0 <= length <= 11
            low = bits.number(min(length, 3))
            frequency = (1 << length) + low if length <= 3 else (8 + low) << (length - 3)
        frequencies.append(frequency)
        if model in (1, 2) or (model in (0, 3) and symbol_bits <= 4):
            assert symbol < 1 << symbol_bits
        elif model in (0, 3):
            full = 31 + 8 * (symbol_bits - 5)
            assert symbol < full or symbol == full + 1
    left = 4096 - sum(frequencies)
    assert left >= 1
    assert all(left > one for one in frequencies[:most])
    assert all(left >= one for one in frequencies)
    frequencies[most] = left
    slots: list[tuple[int, int, int]] = []
    for one, frequency in zip(symbols, frequencies, strict=True):
        slots += [(one, frequency, len(slots))] * frequency
    return Table(raw, slots)


class Lanes:
    def __init__(self, states: list[int], words: list[int]) -> None:
        assert all(state >= 1 << 16 for state in states)
        self.states = states
        self.words = iter(words)

    def symbol(self, lane: int, chosen: Table) -> int:
        state = self.states[lane]
        symbol, frequency, before = chosen.slots[state % 4096]
        state = frequency * (state // 4096) + state % 4096 - before
        if state < 1 << 16:
            state = state * 65536 + next(self.words)
        self.states[lane] = state
        return symbol

    def end(self) -> None:
        assert next(self.words, None) is None
        assert all(state == 1 << 16 for state in self.states)


def stream(
    code: Code, source: Sequence[int] | None, count: int, lanes: int, body: Reader
) -> list[int]:
    """The elements of the target."""
    groups = [0] * (count // 256 + 1)
    if code.levels > 1:
        groups = levels(code, -(-count // 256), body)
    word_count = body.varint()
    states = [body.fixed(4) for _ in range(lanes if count else 0)]
    coded = Lanes(states, [body.fixed(2) for _ in range(word_count)])
    tables = [
        table_of(code, None if source is None else source[i], groups[i // 256])
        for i in range(count)
    ]
    symbols = [coded.symbol(i % lanes, one) for i, one in enumerate(tables)]
    coded.end()
    raw = Bits(body.rest())
    made = [
        element(code, None if source is None else source[i], symbols[i], tables[i].raw, raw)
        for i in range(count)
    ]
    raw.end()
    return made


def levels(code: Code, count: int, body: Reader) -> list[int]:
    size = body.varint()
    if count == 0:
        assert size == 0
        return []
    state = body.fixed(4)
    assert size % 2 == 0
    coded = Lanes([state], [body.fixed(2) for _ in range((size - 4) // 2)])
    found = []
    before = 0
    for _ in range(count):
        before = coded.symbol(0, code.level_tables[before])
        found.append(before)
    coded.end()
    return found


def table_of(code: Code, source: int | None, level: int) -> Table:
    key = 0
    if source is not None and code.mantissa is not None:
        key = source >> code.mantissa & ((1 << (code.width - 1 - code.mantissa)) - 1)
        if code.width == 64:
            key //= 8
    its_class = sum(bound <= key for bound in code.bounds) if code.model != 2 else 0
    return code.tables[code.cells[its_class * code.levels + level]]


def element(code: Code, source: int | None, symbol: int, r: int, raw: Bits) -> int:
    top = 1 << (code.width - 1)
    if code.model == 2:
        return (symbol << r) + raw.number(r)
    assert source is not None
    if code.model == 1:
        sign = top >> r if source & top else 0
        return ((symbol ^ sign) << r) + raw.number(r)
    if symbol < 31:
        size, extra, negative = (symbol + 1) // 2, 0, symbol % 2 == 1
    else:
        k, j = 4 + (symbol - 31) // 8, (symbol - 31) // 2 % 4
        size, extra, negative = (4 + j) << (k - 2), k - 2, (symbol - 31) % 2 == 1
    value = raw.number(extra + r)
    quotient = size + (value >> r)
    difference = (-quotient if negative else quotient) * (1 << r) + value % (1 << r)
    if code.model == 3 and source & top:
        difference = -difference  # moved() turns it again
    return moved(source, difference, code.width, is_float=code.mantissa is not None)


def moved(source: int, difference: int, width: int, *, is_float: bool) -> int:
    top = 1 << (width - 1)
    every = (1 << width) - 1
    if not is_float:
        return (source + difference) & every
    if source & top:
        difference = -difference
    place = source ^ every if source & top else source | top
    place = (place + difference) & every
    return place & ~top if place & top else place ^ every
