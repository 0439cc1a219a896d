"""Kinds of elements and code tables, after "Elements" and "Code tables" of FORMAT.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.independent_decoder.leans import size
from tests.independent_decoder.reading import Bits, need

DIFFERENCE, GIVEN, ALONE, UNREFLECTED, BY_LEAN = 0, 1, 2, 3, 4
# By number: width, bits of the mantissa, bits of the exponent.
ELEMENTS = [(8, 0, 0), (16, 0, 0), (32, 0, 0), (64, 0, 0)]
ELEMENTS += [(16, 10, 5), (16, 7, 8), (32, 23, 8), (64, 52, 11)]

# A symbol, its frequency and the sum of those before it, for each of the 4096 values of e.
Slots = list[tuple[int, int, int]]


@dataclass(frozen=True)
class Table:
    """One table: bits of each number that are raw, and the symbols."""

    raw: int
    slots: Slots


class CodeTable:
    """The body of a table record for slots 8 to 15."""

    def __init__(self, data: bytes) -> None:
        bits = Bits(data)
        kind, self.model = bits.take(3), bits.take(3)
        self.width, self.mantissa, self.exponent = ELEMENTS[kind]
        self.floats = kind >= 4
        need(self.model <= BY_LEAN, "an unknown model")
        need(self.floats or self.model in (DIFFERENCE, ALONE, BY_LEAN), "model of integers")
        classes = bits.take(6) + 1
        keyed = self.model == BY_LEAN or (self.floats and self.model != ALONE)
        need(classes == 1 or keyed, "classes")
        self.bounds = [bits.take(8) for _ in range(classes - 1)]
        need(self.bounds == sorted(set(self.bounds) - {0}), "bounds")
        self.levels = bits.take(3) + 1
        count = bits.take(6) + 1
        cell_bits = (count - 1).bit_length()
        cells = [bits.take(cell_bits) for _ in range(classes * self.levels)]
        need(list(dict.fromkeys(cells)) == list(range(count)), "cells")
        self.cells = np.array(cells, np.int64).reshape(classes, self.levels)
        self.tables = [self._table(bits) for _ in range(count)]
        self.level_tables = []
        if self.levels > 1:
            self.level_tables = [self._level_table(bits) for _ in range(self.levels)]
        bits.end()

    def _table(self, bits: Bits) -> Table:
        raw = bits.take(6)
        need(raw < self.width, "raw bits")
        if self.model == GIVEN or (self.model == ALONE and self.floats):
            need(raw == self.mantissa, "raw bits")
        elif self.model == ALONE:
            need(raw == max(0, self.width - 8), "raw bits")
        differences = self.model in (DIFFERENCE, UNREFLECTED, BY_LEAN)
        symbols, slots = read_symbols(bits, bits.take(8) + 1, 2 if differences else 1)
        high = self.width - raw
        if differences and high > 4:
            full = 31 + 8 * (high - 5)
            need(all(symbol < full or symbol == full + 1 for symbol in symbols), "a symbol")
        else:
            need(symbols[-1] < 1 << high, "a symbol")
        return Table(raw, slots)

    def _level_table(self, bits: Bits) -> Slots:
        symbols, slots = read_symbols(bits, bits.take(3) + 1, 1)
        need(symbols[-1] < self.levels, "a level")
        return slots

    def classes(self, sources: np.ndarray, leans: np.ndarray | None) -> np.ndarray:
        """The class of each source element (uint64)."""
        exponent = (sources >> np.uint64(self.mantissa)) & np.uint64((1 << self.exponent) - 1)
        key = exponent.astype(np.int64)
        if leans is not None:
            first = (1 << self.exponent >> 1) - 16
            key = size(leans) + (16 * np.clip(key - first, 0, 15) if self.floats else 0)
        elif self.width == 64:
            key >>= 3
        return np.searchsorted(np.array(self.bounds, np.int64), key, side="right")


def read_symbols(bits: Bits, count: int, rows: int) -> tuple[list[int], Slots]:
    """The symbols, ascending, and what each value of e stands for."""
    most = bits.take((count - 1).bit_length())
    need(most < count, "the most frequent symbol")
    symbols: list[int] = []
    frequencies: list[int] = []
    lengths = [7] * rows
    symbol = -1
    for number in range(count):
        symbol += bits.gamma()
        symbols.append(symbol)
        frequencies.append(0 if number == most else read_frequency(bits, lengths, rows))
    largest = 4096 - sum(frequencies)
    need(largest >= 1, "frequencies sum to too much")
    need(all(one < largest for one in frequencies[:most]), "the most frequent symbol")
    need(all(one <= largest for one in frequencies[most:]), "the most frequent symbol")
    frequencies[most] = largest
    slots: Slots = []
    for symbol, frequency in zip(symbols, frequencies, strict=True):
        slots += [(symbol, frequency, len(slots))] * frequency
    return symbols, slots


def read_frequency(bits: Bits, lengths: list[int], rows: int) -> int:
    """One written frequency; its length is put behind the others."""
    step = bits.gamma()
    length = lengths[-rows] + (step // 2 if step % 2 else -(step // 2))
    need(0 <= length <= 11, "length of a frequency")
    lengths.append(length)
    low = bits.take(min(length, 3))
    return (1 << length) + low if length <= 3 else (8 + low) << (length - 3)
