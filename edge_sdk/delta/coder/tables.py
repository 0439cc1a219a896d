"""Code tables: what a record's symbols are, and how often each is expected. Source: FORMAT.md,
"Code tables".

A code table is a value: it is packed to and parsed from the body of a table record, and what
parses is complete and can be decoded with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from edge_sdk.delta.numeric import KINDS, ElementKind
from edge_sdk.delta.varint import Cursor

DIFFERENCE = 0
GIVEN = 1
ALONE = 2
UNREFLECTED = 3
LEANING = 4
DIFFERENCES = (DIFFERENCE, UNREFLECTED, LEANING)

SCALE_BITS = 12
SCALE = 1 << SCALE_BITS
CLASSES_MAX = 64
LEVELS_MAX = 8
TABLES_MAX = 64
SYMBOLS_MAX = 256
# A level holds for this many elements.
LEVEL_ELEMENTS = 256

# Differences below this have a symbol each; larger ones share one by their three top bits.
EXACT_BELOW = 16
_FIRST_SHARED = 2 * EXACT_BELOW - 1
_GAMMA_ZEROS_MAX = SCALE_BITS
# Frequencies are written by their length and so many bits below the highest.
_KEPT_BITS = 3
_FIRST_LENGTH = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Frequencies of symbols, which ascend; their sum is ``SCALE``. ``shift`` is the number of
    low bits of each difference (model 0) or element (others) that no symbol tells."""

    shift: int
    symbols: tuple[int, ...]
    frequencies: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTable:
    """The tables of one record's elements.

    An element's class is the number of ``bounds`` at or below its source's key; its table is
    ``tables[cells[class * levels + level]]``. ``level_tables``, by the level before, code the
    levels; there are none where ``levels`` is 1.
    """

    kind: ElementKind
    model: int
    bounds: tuple[int, ...]
    levels: int
    cells: tuple[int, ...]
    tables: tuple[Table, ...]
    level_tables: tuple[Table, ...]

    @property
    def classes(self) -> int:
        return len(self.bounds) + 1


def raw_shift(kind: ElementKind, model: int) -> int:
    """The shift that models 1 and 2 have."""
    if kind.mantissa_bits is not None:
        return kind.mantissa_bits
    return max(0, 8 * kind.width_bytes - 8)


def symbol_limit(kind: ElementKind, model: int, shift: int) -> int:
    """All possible symbols are below; for model 0 not all below are (``is_possible``)."""
    if model not in DIFFERENCES:
        return 1 << (8 * kind.width_bytes - shift)
    bits = kind.difference_bits - shift
    if bits <= EXACT_BELOW.bit_length() - 1:
        return 1 << bits
    # The most negative number stands alone, behind all that have a smaller highest bit.
    return _FIRST_SHARED + (bits - 1 - EXACT_BELOW.bit_length() + 1) * 8 + 2


def is_possible(kind: ElementKind, model: int, shift: int, symbol: int) -> bool:
    """Whether an element can have the symbol."""
    limit = symbol_limit(kind, model, shift)
    if model not in DIFFERENCES or limit <= _FIRST_SHARED:
        return symbol < limit
    return symbol < limit - 2 or symbol == limit - 1


# --- bits ---------------------------------------------------------------------------------


def pack(table: CodeTable) -> bytes:
    """The body of a table record behind its slot."""
    bits = _BitsOut()
    bits.number(table.kind.number, 3)
    bits.number(table.model, 3)
    bits.number(len(table.bounds), 6)
    for bound in table.bounds:
        bits.number(bound, 8)
    bits.number(table.levels - 1, 3)
    bits.number(len(table.tables) - 1, 6)
    for cell in table.cells:
        bits.number(cell, _cell_bits(len(table.tables)))
    for one in table.tables:
        bits.number(one.shift, 6)
        bits.frequencies(one, 8, _stride(table.model))
    for one in table.level_tables:
        bits.frequencies(one, 3, 1)
    return bits.bytes()


def parse(cursor: Cursor) -> CodeTable:
    """Takes the rest of a table record. Raises: DeltaError for all that is not canonical."""
    bits = _BitsIn(cursor)
    kind = KINDS[bits.number(3)]
    model = bits.number(3)
    if model > LEANING:
        raise cursor.error(f"has a code of model {model}, unknown to this release")
    if model in {GIVEN, UNREFLECTED} and not kind.is_float:
        raise cursor.error(f"has a code of model {model}, which {kind.name} cannot have")
    bounds = _parse_bounds(bits, kind, model)
    levels = bits.number(3) + 1
    count = bits.number(6) + 1
    cells = _parse_cells(bits, (len(bounds) + 1) * levels, count)
    tables = tuple(_parse_table(bits, kind, model) for _ in range(count))
    level_tables = (_parse_levels(bits, levels) for _ in range(levels if levels > 1 else 0))
    table = CodeTable(
        kind=kind,
        model=model,
        bounds=bounds,
        levels=levels,
        cells=cells,
        tables=tables,
        level_tables=tuple(level_tables),
    )
    bits.end()
    return table


def _parse_bounds(bits: _BitsIn, kind: ElementKind, model: int) -> tuple[int, ...]:
    count = bits.number(6)
    if count and model != LEANING and (model == ALONE or not kind.is_float):
        raise bits.cursor.error("has classes, which its code cannot have")
    bounds = tuple(bits.number(8) for _ in range(count))
    if any(low >= high for low, high in zip((0, *bounds), bounds, strict=False)):
        raise bits.cursor.error("has bounds of classes that do not ascend")
    return bounds


def _parse_cells(bits: _BitsIn, cells_count: int, tables_count: int) -> tuple[int, ...]:
    cells = tuple(bits.number(_cell_bits(tables_count)) for _ in range(cells_count))
    seen = 0
    for cell in cells:
        if cell > seen:
            raise bits.cursor.error("has cells whose tables are out of order")
        seen += cell == seen
    if seen != tables_count:
        raise bits.cursor.error("has a table that no cell uses, or not all tables")
    return cells


def _parse_table(bits: _BitsIn, kind: ElementKind, model: int) -> Table:
    shift = bits.number(6)
    if shift >= 8 * kind.width_bytes or (
        model not in DIFFERENCES and shift != raw_shift(kind, model)
    ):
        raise bits.cursor.error(f"leaves {shift} bits without symbol, which {kind.name} cannot")
    table = bits.frequencies(shift, bits.number(8) + 1, _stride(model))
    if not all(is_possible(kind, model, shift, symbol) for symbol in table.symbols[-2:]):
        raise bits.cursor.error(f"has symbol {table.symbols[-1]}, which {kind.name} cannot have")
    return table


def _parse_levels(bits: _BitsIn, levels: int) -> Table:
    table = bits.frequencies(0, bits.number(3) + 1, 1)
    if table.symbols[-1] >= levels:
        raise bits.cursor.error(f"has level {table.symbols[-1]} of {levels}")
    return table


def rounded(frequency: int) -> int:
    """The nearest frequency that can be written: of four bits, with zeros behind them."""
    dropped = max(0, frequency.bit_length() - 1 - _KEPT_BITS)
    half = (1 << dropped) >> 1
    return (frequency + half) >> dropped << dropped


def _stride(model: int) -> int:
    """How far before a symbol the one stands whose frequency is most like its own: signs
    alternate in differences."""
    return 2 if model in DIFFERENCES else 1


def _cell_bits(tables_count: int) -> int:
    return (tables_count - 1).bit_length()


@lru_cache(maxsize=2 * SCALE)
def _gamma(value: int) -> str:
    digits = format(value, "b")
    return "0" * (len(digits) - 1) + digits


@lru_cache(maxsize=SCALE)
def _written(frequency: int) -> tuple[int, str]:
    """The length, and the bits kept below the highest, the lowest first."""
    assert frequency == rounded(frequency), "a frequency that cannot be written"
    length = frequency.bit_length() - 1
    return length, format(frequency, "b")[1 : 1 + _KEPT_BITS][::-1]


def _digits(bits: int) -> list[str]:
    """All that so many bits can be, the highest first."""
    return [format(value, f"0{bits}b") for value in range(1 << bits)] if bits else [""]


# What a table is mostly made of, looked up. Values and lengths of short gammas by as many digits
# as the longest of them has, whatever those behind it are; kept bits, the lowest first.
_SHORT_GAMMA_BITS = 7
_SHORT_GAMMAS = {
    _gamma(value) + behind: (value, len(_gamma(value)))
    for value in range(1, 1 << (_SHORT_GAMMA_BITS // 2 + 1))
    for behind in _digits(_SHORT_GAMMA_BITS - len(_gamma(value)))
}
_KEPT = {
    digits[::-1]: value
    for bits in range(_KEPT_BITS + 1)
    for value, digits in enumerate(_digits(bits))
}


class _BitsOut:
    """Collects bits, the lowest of each byte first."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def number(self, value: int, bits: int) -> None:
        if bits:
            self._parts.append(format(value, f"0{bits}b")[::-1])

    def gamma(self, value: int) -> None:
        self._parts.append(_gamma(value))

    def frequencies(self, table: Table, count_bits: int, stride: int) -> None:
        count = len(table.symbols)
        self.number(count - 1, count_bits)
        rest = table.frequencies.index(max(table.frequencies))
        self.number(rest, (count - 1).bit_length())
        lengths = [_FIRST_LENGTH] * stride
        before = -1
        for number, (symbol, frequency) in enumerate(
            zip(table.symbols, table.frequencies, strict=True)
        ):
            self.gamma(symbol - before)
            before = symbol
            if number != rest:
                length, kept = _written(frequency)
                step = length - lengths[-stride]
                self.gamma(2 * step + 1 if step >= 0 else -2 * step)
                self._parts.append(kept)
                lengths.append(length)

    def bytes(self) -> bytes:
        digits = "".join(self._parts)
        return int(digits[::-1], 2).to_bytes(ceil(len(digits) / 8), "little")


class _BitsIn:
    """Reads what ``_BitsOut`` makes. Raises: DeltaError from every method."""

    def __init__(self, cursor: Cursor) -> None:
        data = bytes(cursor.rest())
        digits = format(int.from_bytes(data, "little"), f"0{8 * len(data)}b")
        self.cursor = cursor
        self._digits = digits[::-1] if data else ""
        self._at = 0

    def number(self, bits: int) -> int:
        end = self._at + bits
        if end > len(self._digits):
            raise self.cursor.error("ends within a code table")
        digits = self._digits[self._at : end]
        self._at = end
        return _KEPT[digits] if bits <= _KEPT_BITS else int(digits[::-1], 2)

    def gamma(self) -> int:
        short = _SHORT_GAMMAS.get(self._digits[self._at : self._at + _SHORT_GAMMA_BITS])
        if short is not None:
            value, bits = short
            self._at += bits
            return value
        first = self._digits.find("1", self._at, self._at + _GAMMA_ZEROS_MAX + 1)
        end = 2 * first - self._at + 1
        if first < 0 or end > len(self._digits):
            raise self.cursor.error("ends within a code table, or holds too large a number there")
        value = int(self._digits[first:end], 2)
        self._at = end
        return value

    def frequencies(self, shift: int, count: int, stride: int) -> Table:
        rest = self.number((count - 1).bit_length())
        lengths = [_FIRST_LENGTH] * stride
        symbols, frequencies = [], []
        symbol = -1
        for number in range(count):
            symbol += self.gamma()
            symbols.append(symbol)
            if number == rest:
                frequencies.append(0)
                continue
            length = self._length(lengths[-stride])
            lengths.append(length)
            kept = length if length < _KEPT_BITS else _KEPT_BITS
            frequencies.append(((1 << kept) + self.number(kept)) << (length - kept))
        left = SCALE - sum(frequencies)
        if rest >= count or left < max(frequencies) or left <= max(frequencies[:rest], default=0):
            raise self.cursor.error("has frequencies that leave too little for the largest")
        frequencies[rest] = left
        return Table(shift=shift, symbols=tuple(symbols), frequencies=tuple(frequencies))

    def _length(self, before: int) -> int:
        step = self.gamma()
        length = before + (step // 2 if step % 2 else -(step // 2))
        if not 0 <= length < SCALE_BITS:
            raise self.cursor.error("has a frequency that is too large")
        return length

    def end(self) -> None:
        rest = self._digits[self._at :]
        if len(rest) >= 8 or "1" in rest:
            raise self.cursor.error("has bits behind its code table")
