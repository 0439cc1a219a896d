"""The coder in C (csrc/): the same functions and results as ``twin``, without the lock of the
interpreter while they work.

Importing this raises ImportError where the extension was not built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import DeltaError
from edge_sdk.delta import _kernel
from edge_sdk.delta.coder.tables import LEVEL_ELEMENTS, CodeTable, Table
from edge_sdk.delta.numeric import KINDS, Bits, ElementKind

KEYS = 256
COLUMNS = 512

# edge_coder_error of csrc/kernel.h.
_ARGUMENT = -1
_NO_SYMBOL = -7
_FAULTS = {
    _ARGUMENT: "cannot be coded: an argument is out of its range",
    -2: "has a code table that breaks a rule of the format",
    -3: "has a stream that ends too early",
    -4: "has a stream that is longer than its elements need",
    -5: "has a stream that does not start or end as it must",
    -6: "has a stream whose padding is not zero",
    _NO_SYMBOL: "has a symbol without frequency",
}
_NOTHING = np.empty(0, np.uint8)
# EDGE_CODER_TABLE_NUMBERS_MAX.
_TABLE_NUMBERS_MAX = 34000
# As many as slots for code tables; a decoder takes 17 KiB for each table.
_PREPARED_MAX = 8

_Shape = tuple[int, int, int, NDArray[np.uint8], NDArray[np.uint8]]
_Numbers = NDArray[np.uint16]
_Three = tuple[_Numbers, _Numbers, _Numbers]
Bytes = bytes | bytearray | memoryview
Factors = tuple[tuple[int, ...], bytes, bytes]


def scales(
    kind: ElementKind, source: Bits, target: Bits
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """By key of the source: how many elements, and the sum of their differences' sizes."""
    counts, sums = np.zeros(KEYS, np.uint64), np.zeros(KEYS, np.uint64)
    _checked(_kernel.scales(kind.number, _bytes(source), _bytes(target), counts, sums))
    return counts, sums


def levels(
    kind: ElementKind, source: Bits, target: Bits, inverse_means: NDArray[np.uint32]
) -> NDArray[np.uint8]:
    """How large the differences of each 256 elements are, against the mean of their keys.

    ``inverse_means`` by key: 2**26 / mean, floored and saturated.
    """
    out = np.empty(-(-len(target) // LEVEL_ELEMENTS), np.uint8)
    means = np.ascontiguousarray(inverse_means, np.uint32)
    _checked(_kernel.levels(kind.number, _bytes(source), _bytes(target), means, out))
    return out


def histogram(
    table: CodeTable,
    source: Bits | None,
    target: Bits,
    levels: NDArray[np.uint8] | None,
) -> NDArray[np.uint32]:
    """How often each table is asked for each symbol, of shape (tables, 512); symbols from 511
    on are counted there. Only the shape of ``table`` counts, not its frequencies."""
    shape = _shape(table)
    bins = _checked(_kernel.bins(*shape))
    out = np.zeros((len(table.tables), bins), np.uint32)
    _checked(_kernel.histogram(*shape, _bytes(source), _bytes(target), _bytes(levels), out))
    if bins > COLUMNS:
        out[:, COLUMNS - 1] = out[:, COLUMNS - 1 :].sum(axis=1)
        out = np.ascontiguousarray(out[:, :COLUMNS])
    return out


def encode(
    table: CodeTable,
    source: Bits | None,
    target: Bits,
    levels: NDArray[np.uint8] | None,
    lanes: int,
) -> bytes | None:
    """The stream; None where a symbol has no frequency."""
    encoder = _encoder(table).memory
    scratch_bytes, stream_bytes = _kernel.encode_bytes(encoder, len(target), lanes)
    scratch, stream = _memory(scratch_bytes), _memory(stream_bytes)
    length = _kernel.encode(
        encoder, _bytes(source), _bytes(target), _bytes(levels), lanes, scratch, stream
    )
    return None if length == _NO_SYMBOL else stream[: _checked(length)].tobytes()


def decode(
    table: CodeTable,
    source: Bits | None,
    count: int,
    lanes: int,
    stream: Bytes,
    *,
    into: Bits | None = None,
    plain: bool = False,
) -> Bits:
    """``count`` elements, in the memory of ``into`` if there is one. ``plain`` keeps to
    instructions that every processor has. Raises: DeltaError."""
    target = np.empty(count, table.kind.bits) if into is None else into
    scratch = _memory(_kernel.decode_scratch_bytes())
    decoder = _decoder(table, plain).memory
    _checked(_kernel.decode(decoder, _bytes(source), lanes, stream, scratch, _bytes(target)))
    return target


def parse(body: Bytes) -> CodeTable | None:
    """What ``tables.parse`` makes of these bytes; None where it refuses them."""
    room = np.empty(_TABLE_NUMBERS_MAX, np.uint16)
    length = _kernel.parse_table(body, room)
    if length < 0:
        return None
    numbers = iter(room[:length].tolist())
    kind, model = KINDS[next(numbers)], next(numbers)
    bounds = _taken(numbers, next(numbers))
    levels, tables = next(numbers), next(numbers)
    return CodeTable(
        kind=kind,
        model=model,
        bounds=bounds,
        levels=levels,
        cells=_taken(numbers, (len(bounds) + 1) * levels),
        tables=tuple(_table(numbers, next(numbers)) for _ in range(tables)),
        level_tables=tuple(_table(numbers, 0) for _ in range(levels if levels > 1 else 0)),
    )


def _table(numbers: Iterator[int], shift: int) -> Table:
    count = next(numbers)
    symbols, frequencies = _taken(numbers, count), _taken(numbers, count)
    return Table(shift=shift, symbols=symbols, frequencies=frequencies)


def _taken(numbers: Iterator[int], count: int) -> tuple[int, ...]:
    return tuple(islice(numbers, count))


def factors(bits: Bytes, rows: int, columns: int, rank: int) -> Factors | None:
    """Shifts, left and right factors of a map of low rank, the latter as bytes of int8, whose
    number is bounded; None where they are not as they must be."""
    shifts, left, right = bytearray(rank), bytearray(rank * rows), bytearray(rank * columns)
    if _kernel.parse_factors(bits, shifts, left, right) < 0:
        return None
    return tuple(shifts), bytes(left), bytes(right)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """An encoder or a decoder as csrc/ lays it out."""

    memory: NDArray[np.uint8]


@lru_cache(maxsize=_PREPARED_MAX)
def _encoder(table: CodeTable) -> _Prepared:
    shape = _shape(table)
    memory = _memory(_checked(_kernel.encoder_bytes(*shape)))
    of_symbols, of_levels = _joined(table.tables), _joined(table.level_tables)
    _checked(_kernel.make_encoder(*shape, *of_symbols, *of_levels, memory))
    return _Prepared(memory=memory)


@lru_cache(maxsize=_PREPARED_MAX)
def _decoder(table: CodeTable, plain: bool) -> _Prepared:
    shape = _shape(table)
    memory = _memory(_checked(_kernel.decoder_bytes(*shape)))
    of_symbols, of_levels = _joined(table.tables), _joined(table.level_tables)
    _checked(_kernel.make_decoder(*shape, *of_symbols, *of_levels, memory, plain))
    return _Prepared(memory=memory)


@lru_cache(maxsize=4 * _PREPARED_MAX)
def _shape(table: CodeTable) -> _Shape:
    """Kind, model, levels; the table by level and key; the bits without symbol by table.

    Shared by all callers: only read.
    """
    keys = np.arange(KEYS, dtype=np.uint16)
    classes = np.searchsorted(np.array(table.bounds, np.uint16), keys, side="right")
    cells = np.array(table.cells, np.uint8).reshape(-1, table.levels)
    shifts = np.array([one.shift for one in table.tables], np.uint8)
    table_of = np.ascontiguousarray(cells[classes].T)
    return table.kind.number, table.model, table.levels, table_of, shifts


def _joined(tables: Sequence[Table]) -> _Three:
    """How many symbols each table has; all symbols; all frequencies."""
    counts = [len(one.symbols) for one in tables]
    symbols = [symbol for one in tables for symbol in one.symbols]
    frequencies = [frequency for one in tables for frequency in one.frequencies]
    return np.array(counts, "u2"), np.array(symbols, "u2"), np.array(frequencies, "u2")


def _bytes(elements: Bits | NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    return _NOTHING if elements is None else elements.view(np.uint8)


def _memory(size: int) -> NDArray[np.uint8]:
    """Aligned to 8 bytes."""
    return np.empty(-(-size // 8), np.uint64).view(np.uint8)


def _checked(result: int) -> int:
    """Raises: DeltaError for the kernel's errors."""
    if result < 0:
        raise DeltaError(f"a record {_FAULTS.get(result, 'cannot be coded')}")
    return result
