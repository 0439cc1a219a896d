"""Streams of elements, after "Elements" and "Streams" of FORMAT.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.independent_decoder.code_tables import ALONE, GIVEN, UNREFLECTED, CodeTable, Slots
from tests.independent_decoder.reading import Reader, need


class Lanes:
    """States and words from which symbols are decoded one after the other."""

    def __init__(self, states: list[int], words: list[int]) -> None:
        need(all(state >= 1 << 16 for state in states), "a state at the start")
        self.states, self.words = states, words
        self.taken = self.used = 0

    def symbol(self, slots: Slots) -> int:
        lane = self.taken % len(self.states)
        self.taken += 1
        x = self.states[lane]
        symbol, frequency, before = slots[x & 4095]
        x = frequency * (x >> 12) + (x & 4095) - before
        if x < 1 << 16:
            need(self.used < len(self.words), "words are missing")
            x = x << 16 | self.words[self.used]
            self.used += 1
        self.states[lane] = x
        return symbol

    def end(self) -> None:
        need(self.used == len(self.words), "words are left over")
        need(all(state == 1 << 16 for state in self.states), "a state at the end")


def elements(
    code: CodeTable,
    sources: np.ndarray | None,
    count: int,
    lanes: int,
    stream: bytes,
    leans: np.ndarray | None = None,
) -> np.ndarray:
    """``count`` elements of the target (uint64), given those predicted; their leans in model 4."""
    reader = Reader(stream)
    levels = read_levels(code, count, reader)
    words = reader.varint()
    states = [reader.u32() for _ in range(lanes if count else 0)]
    decoder = Lanes(states, reader.u16s(words))
    classes = np.zeros(count, np.int64) if sources is None else code.classes(sources, leans)
    table = code.cells[classes, np.repeat(levels, 256)[:count]]
    slots = [one.slots for one in code.tables]
    symbols = np.array([decoder.symbol(slots[one]) for one in table.tolist()], np.int64)
    decoder.end()
    raw = np.array([one.raw for one in code.tables], np.int64)[table]
    if code.model == ALONE:
        return (symbols.astype(np.uint64) << raw.astype(np.uint64)) + raw_bits(reader.rest(), raw)
    assert sources is not None
    if code.model == GIVEN:
        return given(code, sources, symbols, raw_bits(reader.rest(), raw))
    return moved(code, sources, differences(symbols, raw, reader.rest()), leans)


def read_levels(code: CodeTable, count: int, reader: Reader) -> np.ndarray:
    """The level of each group of 256 elements."""
    groups = -(-count // 256)
    if code.levels == 1:
        return np.zeros(groups, np.int64)
    part = Reader(reader.take(reader.varint()))
    found: list[int] = []
    if count:
        state = part.u32()
        need(part.left() % 2 == 0, "half a word")
        decoder = Lanes([state], part.u16s(part.left() // 2))
        for _ in range(groups):
            found.append(decoder.symbol(code.level_tables[found[-1] if found else 0]))
        decoder.end()
    part.end("the levels")
    return np.array(found, np.int64)


def raw_bits(data: bytes, widths: np.ndarray) -> np.ndarray:
    """Numbers of the given widths, 0 to 64 bits, that stand one after the other."""
    ends = np.cumsum(widths)
    total = int(ends[-1]) if len(ends) else 0
    need(len(data) == -(-total // 8), "length of the raw bits")
    need(total % 8 == 0 or data[-1] >> total % 8 == 0, "raw bits left over")
    first, shift = (ends - widths) >> 3, ((ends - widths) & 7).astype(np.uint64)
    padded = np.frombuffer(data + bytes(9), np.uint8).astype(np.uint64)
    low = np.zeros(len(widths), np.uint64)
    for place in range(8):
        low |= padded[first + place] << np.uint64(8 * place)
    above = padded[first + 8] << ((np.uint64(64) - shift) & np.uint64(63))
    masks = np.array([(1 << width) - 1 for width in range(65)], np.uint64)
    return ((low >> shift) | np.where(shift > 0, above, np.uint64(0))) & masks[widths]


def given(code: CodeTable, sources: np.ndarray, symbols: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Model 1: sign and exponent are the symbol, the sign turned by the source's."""
    sign = np.uint64(1 << (code.width - 1))
    turned = np.where(sources & sign, np.uint64(1 << (code.width - 1 - code.mantissa)), 0)
    top = symbols.astype(np.uint64) ^ turned.astype(np.uint64)
    return (top << np.uint64(code.mantissa)) + raw


def differences(symbols: np.ndarray, raw: np.ndarray, data: bytes) -> np.ndarray:
    """Models 0, 3 and 4: the differences, modulo 2^64."""
    small, above = symbols < 31, symbols - 31
    more = np.where(small, 0, 2 + above // 8)
    size = np.where(small, (symbols + 1) // 2, 4 + above // 2 % 4).astype(np.uint64)
    size <<= more.astype(np.uint64)
    negative = np.where(small, symbols, above) % 2 == 1
    low = raw.astype(np.uint64)
    value = raw_bits(data, more + raw)
    high = size + (value >> low)
    high = np.where(negative, np.uint64(0) - high, high)
    return (high << low) + (value & ((np.uint64(1) << low) - np.uint64(1)))


def moved(
    code: CodeTable, sources: np.ndarray, steps: np.ndarray, leans: np.ndarray | None
) -> np.ndarray:
    """The elements that lie so far from those of the source."""
    full, sign = np.uint64((1 << code.width) - 1), np.uint64(1 << (code.width - 1))
    minus = sources & sign > 0
    back = np.zeros(len(sources), bool)
    if leans is not None:
        back = leans < 0
    elif code.floats and code.model != UNREFLECTED:
        back = minus
    steps = np.where(back, np.uint64(0) - steps, steps)
    if not code.floats:
        return (sources + steps) & full
    ordered = np.where(minus, sources ^ full, sources | sign)
    ordered = (ordered + steps) & full
    return np.where(ordered & sign > 0, ordered ^ sign, ordered ^ full)


@dataclass(frozen=True)
class Shape:
    """Edges and whole elements of a record: bytes before, elements, bytes behind."""

    phase: int
    count: int
    tail: int

    @staticmethod
    def of(code: CodeTable, length: int, phase: int) -> Shape:
        width = code.width // 8
        need(phase < width and phase <= length, "phase")
        count, tail = divmod(length - phase, width)
        return Shape(phase, count, tail)


def coded(
    code: CodeTable,
    predicted: bytes | None,
    shape: Shape,
    lanes: int,
    reader: Reader,
    leans: np.ndarray | None = None,
) -> bytes:
    """What a record with a stream makes: edges and elements. ``predicted``: whole elements."""
    dtype = np.dtype(f"<u{code.width // 8}")
    before, tail = reader.take(shape.phase), reader.take(shape.tail)
    sources = None
    if predicted is not None:
        sources = np.frombuffer(predicted, dtype).astype(np.uint64)
    made = elements(code, sources, shape.count, lanes, reader.rest(), leans)
    return before + made.astype(dtype).tobytes() + tail
