"""The coder in NumPy and plain Python: the same bytes as the kernel, for any machine.

Elements are unsigned bit patterns of their kind, arrays of shape (n,). ``source`` is None
where the code needs none; ``levels`` holds one for every 256 elements, and is None where
the code has none.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import DeltaError
from edge_sdk.delta import numeric
from edge_sdk.delta.coder import rans, rawbits
from edge_sdk.delta.coder.tables import (
    ALONE,
    DIFFERENCE,
    EXACT_BELOW,
    LEVEL_ELEMENTS,
    CodeTable,
)
from edge_sdk.delta.numeric import Bits, ElementKind
from edge_sdk.delta.varint import Cursor, varints

KEYS = 256
COLUMNS = 512
# Upper limits of levels, as shares of the mean in units of 2**-18.
THRESHOLDS = (31457, 78643, 144179, 222822, 314573, 471859)

_SUM_MAX = 1 << 40
_LEVEL_MAX = (1 << 24) - 1
# Elements at a time: Python holds some 200 bytes for each.
_PIECE = 1 << 13
_FIRST_SHARED = 2 * EXACT_BELOW - 1


# --- statistics ---------------------------------------------------------------------------


def scales(
    kind: ElementKind, source: Bits, target: Bits
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """By key of the source: how many elements, and the sum of their differences' sizes."""
    counts, sums = np.zeros(KEYS, np.uint64), np.zeros(KEYS, np.uint64)
    for part in _pieces(len(target)):
        found = keys(kind, source[part])
        sizes = np.minimum(_sizes(kind, source[part], target[part]), _SUM_MAX)
        counts += np.bincount(found, minlength=KEYS).astype(np.uint64)
        # Two halves: a float64 holds sums of each exactly.
        for shift in (0, 20):
            half = (sizes >> np.uint64(shift)) & np.uint64((1 << 20 if shift == 0 else 1 << 21) - 1)
            total = np.bincount(found, weights=half.astype(np.float64), minlength=KEYS)
            sums += total.astype(np.uint64) << np.uint64(shift)
    return counts, sums


def levels(
    kind: ElementKind, source: Bits, target: Bits, inverse_means: NDArray[np.uint32]
) -> NDArray[np.uint8]:
    """How large the differences of each 256 elements are, against the mean of their keys.

    ``inverse_means`` by key: 2**26 / mean, floored and saturated.
    """
    wide = inverse_means.astype(np.uint64)
    out = np.empty(-(-len(target) // LEVEL_ELEMENTS), np.uint8)
    for part in _pieces(len(target)):
        sizes = np.minimum(_sizes(kind, source[part], target[part]), _LEVEL_MAX)
        relative = (sizes * wide[keys(kind, source[part])]) >> np.uint64(8)
        starts = np.arange(0, len(relative), LEVEL_ELEMENTS)
        scores = np.add.reduceat(relative, starts) >> np.uint64(8)
        first = part.start // LEVEL_ELEMENTS
        out[first : first + len(starts)] = np.searchsorted(THRESHOLDS, scores, side="right")
    return out


def histogram(
    table: CodeTable,
    source: Bits | None,
    target: Bits,
    levels: NDArray[np.uint8] | None,
) -> NDArray[np.uint32]:
    """How often each table is asked for each symbol, of shape (tables, 512); symbols from 511
    on are counted there."""
    counts = np.zeros(len(table.tables) * COLUMNS, np.int64)
    for part in _pieces(len(target)):
        before = None if source is None else source[part]
        tables = _tables(table, before, levels, part)
        symbols, _, _ = _symbols(table, before, target[part], tables)
        column = np.minimum(symbols, COLUMNS - 1).astype(np.intp)
        counts += np.bincount(tables.astype(np.intp) * COLUMNS + column, minlength=len(counts))
    return counts.astype(np.uint32).reshape(-1, COLUMNS)


# --- streams ------------------------------------------------------------------------------


def encode(
    table: CodeTable,
    source: Bits | None,
    target: Bits,
    levels: NDArray[np.uint8] | None,
    lanes: int,
) -> bytes | None:
    """The stream; None where a symbol has no frequency."""
    out = bytearray()
    if table.levels > 1:
        assert levels is not None
        coded = _encode_levels(table, levels)
        if coded is None:
            return None
        out += varints(len(coded)) + coded
    count = len(target)
    symbols, tables = np.empty(count, np.uint16), np.empty(count, np.uint8)
    raw, widths = np.empty(count, np.uint64), np.empty(count, np.uint64)
    for part in _pieces(count):
        before = None if source is None else source[part]
        tables[part] = _tables(table, before, levels, part)
        symbols[part], raw[part], widths[part] = _symbols(table, before, target[part], tables[part])
    found = rans.encode(_prepared(table), tables, symbols, lanes)
    if found is None:
        return None
    states, words = found
    return bytes(out) + varints(len(words) // 2) + states + words + rawbits.put(raw, widths)


def decode(
    table: CodeTable,
    source: Bits | None,
    count: int,
    lanes: int,
    stream: bytes | bytearray | memoryview,
    *,
    into: Bits | None = None,
) -> Bits:
    """``count`` elements, in the memory of ``into`` if there is one. Raises: DeltaError."""
    cursor = Cursor(stream, "a record's stream")
    levels = None
    if table.levels > 1:
        levels = _decode_levels(table, -(-count // LEVEL_ELEMENTS), cursor.take(cursor.varint()))
    word_count = cursor.varint()
    states = bytes(cursor.take(4 * lanes if count else 0))
    symbols_in = rans.Decoder(_prepared(table), states, bytes(cursor.take(2 * word_count)))
    raw_in = _RawIn(cursor.rest())
    target = np.empty(count, table.kind.bits) if into is None else into
    for part in _pieces(count):
        before = None if source is None else source[part]
        tables = _tables(table, before, levels, part)
        symbols = symbols_in.take(tables)
        target[part] = _elements(table, before, tables, symbols, raw_in)
    symbols_in.end()
    raw_in.end()
    return target


def _encode_levels(table: CodeTable, levels: NDArray[np.uint8]) -> bytes | None:
    contexts = np.zeros_like(levels)
    contexts[1:] = levels[:-1]
    found = rans.encode(_prepared_levels(table), contexts, levels.astype(np.uint16), 1)
    return None if found is None else b"".join(found)


def _decode_levels(table: CodeTable, count: int, data: memoryview) -> NDArray[np.uint8]:
    levels = np.zeros(count, np.uint8)
    head = min(len(data), 4) if count else 0
    if len(data) % 2 or (count and head < 4):
        raise DeltaError("a record's levels have an impossible length")
    levels_in = rans.Decoder(_prepared_levels(table), bytes(data[:head]), bytes(data[head:]))
    context = np.zeros(1, np.uint8)
    for number in range(count):
        levels[number] = levels_in.take(context)[0]
        context = levels[number : number + 1]
    levels_in.end()
    return levels


class _RawIn:
    """Takes raw bits in the order of the elements. Raises: DeltaError."""

    def __init__(self, data: memoryview) -> None:
        self._words = rawbits.words_of(data)
        self._bits = 8 * len(data)
        self._data = data
        self._at = 0

    def take(self, widths: NDArray[np.uint64]) -> NDArray[np.uint64]:
        ends = np.cumsum(widths, dtype=np.uint64) + np.uint64(self._at)
        if int(ends[-1]) > self._bits:
            raise DeltaError("a record's raw bits end too early")
        self._at = int(ends[-1])
        return rawbits.take(self._words, ends - widths, widths)

    def end(self) -> None:
        if (self._at + 7) // 8 != len(self._data) or (
            self._at % 8 and self._data[-1] >> self._at % 8
        ):
            raise DeltaError("a record has raw bits that no element takes")


# --- models -------------------------------------------------------------------------------


def keys(kind: ElementKind, source: Bits) -> NDArray[Any]:
    """0 to 255 by source element: the exponent of floats."""
    if not kind.is_float:
        return np.zeros(len(source), np.uint8)
    found = numeric.exponents(source, kind)
    return found >> np.uint16(3) if kind.width_bytes == 8 else found


def _sizes(kind: ElementKind, source: Bits, target: Bits) -> NDArray[np.uint64]:
    """Of the differences."""
    difference = numeric.difference(source, target, kind)
    negative = difference >> kind.bits.type(8 * kind.width_bytes - 1) != 0
    sizes: NDArray[np.uint64] = np.where(negative, np.negative(difference), difference)
    return sizes.astype(np.uint64)


def _tables(
    table: CodeTable,
    source: Bits | None,
    levels: NDArray[np.uint8] | None,
    part: slice,
) -> NDArray[np.uint8]:
    """The number of the table of each element of ``part``, to which ``source`` belongs."""
    cells = np.array(table.cells, np.uint8)
    count = part.stop - part.start
    cell = np.zeros(count, np.uint16)
    if source is not None and table.bounds:
        classes = np.searchsorted(table.bounds, np.arange(KEYS), side="right").astype(np.uint16)
        cell += classes[keys(table.kind, source)] * np.uint16(table.levels)
    if levels is not None and table.levels > 1:
        first = part.start // LEVEL_ELEMENTS
        cell += np.repeat(levels[first:], LEVEL_ELEMENTS)[:count]
    found: NDArray[np.uint8] = cells[cell]
    return found


def _symbols(
    table: CodeTable, source: Bits | None, target: Bits, tables: NDArray[np.uint8]
) -> tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]:
    """Symbols, raw bits, and how many of these."""
    kind, dtype = table.kind, table.kind.bits.type
    if table.model != DIFFERENCE:
        shift = table.tables[0].shift
        symbols = (target >> dtype(shift)).astype(np.uint16)
        if table.model != ALONE:
            assert source is not None
            symbols ^= _moved_signs(kind, source)
        raw = (target & dtype((1 << shift) - 1)).astype(np.uint64)
        return symbols, raw, np.full(len(target), shift, np.uint64)
    assert source is not None
    signed = numeric.difference(source, target, kind).view(f"<i{kind.width_bytes}")
    difference = signed.astype(np.int64)
    shifts = np.array([one.shift for one in table.tables], np.int64)[tables]
    quotient = difference >> shifts
    low = (difference & ((np.int64(1) << shifts) - np.int64(1))).view(np.uint64)
    symbols, extra, extra_bits = _shared(quotient)
    wide = shifts.view(np.uint64)
    return symbols, (extra << wide) | low, extra_bits + wide


def _shared(
    quotient: NDArray[np.int64],
) -> tuple[NDArray[np.uint16], NDArray[np.uint64], NDArray[np.uint64]]:
    """Symbols of quotients, and the bits that these leave out."""
    negative = quotient < 0
    size = np.where(negative, np.negative(quotient), quotient).view(np.uint64)
    symbols = (2 * size.astype(np.uint16)) - negative
    extra, extra_bits = np.zeros(len(size), np.uint64), np.zeros(len(size), np.uint64)
    large = np.flatnonzero(size >= np.uint64(EXACT_BELOW))
    if len(large):
        found = size[large]
        top = (np.frexp(found.astype(np.float64))[1] - 1).astype(np.uint64)
        top -= (found >> np.minimum(top, 63)) == 0  # rounded up to a power of two
        bits = top - np.uint64(2)
        shared = ((top - np.uint64(4)) * np.uint64(4) + ((found >> bits) & np.uint64(3))) * 2
        symbols[large] = (_FIRST_SHARED + shared).astype(np.uint16) + negative[large]
        extra[large] = found & ((np.uint64(1) << bits) - np.uint64(1))
        extra_bits[large] = bits
    return symbols.astype(np.uint16), extra, extra_bits


def _moved_signs(kind: ElementKind, source: Bits) -> NDArray[np.uint16]:
    """The sign of each source element, where a symbol has its own."""
    assert kind.mantissa_bits is not None
    last = 8 * kind.width_bytes - 1
    signs = (source >> kind.bits.type(last)).astype(np.uint16)
    moved: NDArray[np.uint16] = signs << np.uint16(last - kind.mantissa_bits)
    return moved


def _elements(
    table: CodeTable,
    source: Bits | None,
    tables: NDArray[np.uint8],
    symbols: NDArray[np.uint16],
    raw_in: _RawIn,
) -> Bits:
    kind, dtype = table.kind, table.kind.bits
    shifts = np.array([one.shift for one in table.tables], np.uint64)[tables]
    if table.model != DIFFERENCE:
        raw = raw_in.take(shifts)
        if table.model != ALONE:
            assert source is not None
            symbols = symbols ^ _moved_signs(kind, source)
        return ((symbols.astype(np.uint64) << shifts) | raw).astype(dtype)
    assert source is not None
    extra_bits = EXTRA_BITS[symbols]
    raw = raw_in.take(extra_bits + shifts)
    size = SIZES[symbols] + (raw >> shifts)
    quotient = np.where(_NEGATIVE[symbols], np.negative(size), size)
    low = raw & ((np.uint64(1) << shifts) - np.uint64(1))
    difference = ((quotient << shifts) | low).astype(dtype)
    return numeric.moved(source, difference, kind)


def _symbol_facts() -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    """By symbol: the smallest size of a quotient, extra bits, sign."""
    facts = []
    for symbol in range(COLUMNS):
        if symbol < _FIRST_SHARED:
            facts.append(((symbol + 1) // 2, 0, symbol % 2 == 1))
        else:
            top, rest = divmod(symbol - _FIRST_SHARED, 8)
            facts.append((((4 + rest // 2) << (top + 2)) % 2**64, top + 2, rest % 2 == 1))
    size, extra, negative = zip(*facts, strict=True)
    return np.array(size, np.uint64), np.array(extra, np.uint64), np.array(negative, np.bool_)


SIZES, EXTRA_BITS, _NEGATIVE = _symbol_facts()


@lru_cache(maxsize=8)
def _prepared(table: CodeTable) -> rans.Prepared:
    return rans.Prepared(table.tables)


@lru_cache(maxsize=8)
def _prepared_levels(table: CodeTable) -> rans.Prepared:
    return rans.Prepared(table.level_tables)


def _pieces(count: int) -> list[slice]:
    return [slice(at, min(at + _PIECE, count)) for at in range(0, count, _PIECE)]
