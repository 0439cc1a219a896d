"""The value map that adds a matrix of low rank: what training did to a whole tensor at once.

Source: FORMAT.md, "Low rank". A few steps of training move a matrix by sums of a column times a
row; what is left is far smaller than the step. All sums are of integers and exact in float32,
whatever their order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta import coder
from edge_sdk.delta.products import product
from edge_sdk.delta.strides import ReadSource
from edge_sdk.delta.value_maps import (
    NUMBER_KINDS,
    Array,
    Bytes,
    NumberKind,
    Operation,
    Unrounded,
    canonical,
    cast,
    parse_kind,
)
from edge_sdk.delta.varint import Cursor, varints

COLUMNS_MAX = 1 << 16
RANK_MAX = 32
# Of left and right factors together.
FACTORS_MAX = 1 << 18
# Of the powers of two of all components: so all sums of products stay within 2**24.
WEIGHTS_MAX = 1 << 10
FACTOR_MAX = 127

_FLOAT32 = NUMBER_KINDS["float32"]
_FLOAT64 = NUMBER_KINDS["float64"]
_SHIFT_BITS = 4
_LOW_BITS = 3
# Folded factors without so many of their low bits, of shape (256, 8).
_SHIFTED = np.arange(256)[:, None] >> np.arange(1 << _LOW_BITS)
# Bits that are searched at once for the ends of numbers.
_WINDOW_BITS = 1 << 16
# Of one number, about.
_LIKELY_BITS = 4

Factors = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """Makes of each number, row by row, ``gain`` times it and ``step`` times a sum over
    components k, of ``2**shifts[k] * left[k, row] * right[k, column]``.

    ``left`` and ``right`` are the bytes of int8, of shapes (rank, rows) and (rank, columns).
    """

    source: NumberKind
    target: NumberKind
    rows: int
    columns: int
    gain: np.float32
    step: np.float32
    shifts: tuple[int, ...]
    left: bytes
    right: bytes

    @property
    def operation(self) -> Operation:
        return Operation.LOW_RANK

    @property
    def count(self) -> int:
        return self.rows * self.columns

    @property
    def _weights(self) -> NDArray[np.float32]:
        return np.exp2(np.array(self.shifts, np.float32))

    def loaded(self, _read_source: ReadSource) -> LowRank:
        """It needs nothing of the source beside its numbers."""
        return self

    def apply(self, data: Bytes, first: int) -> bytes:
        """The bytes of the numbers ``first`` and on, whose source bytes are ``data``."""
        return self._unrounded(data, first).rounded(self.target).tobytes()

    def apply_leaning(self, data: Bytes, first: int) -> tuple[bytes, bytes]:
        """The same, and the lean of each number."""
        exact = self._unrounded(data, first)
        return exact.rounded(self.target).tobytes(), exact.leans(self.target).tobytes()

    def _unrounded(self, data: Bytes, first: int) -> Unrounded:
        numbers = np.frombuffer(data, self.source.storage)
        return self.moved(numbers, self._sums(first, len(numbers)))

    def moved(self, numbers: Array, sums: NDArray[np.float32]) -> Unrounded:
        """What the numbers become; ``sums`` are those of the components."""
        with np.errstate(all="ignore"):
            if self.source.is_float:
                numbers = canonical(self._sum(cast(numbers, self.source, _FLOAT32), sums))
            else:
                numbers = self._sum(numbers.astype(np.float32), sums)
            return Unrounded(numbers=numbers, kind=_FLOAT32)

    def _sum(self, numbers: NDArray[np.float32], sums: NDArray[np.float32]) -> Array:
        gained = numbers if self.gain == 1 else numbers * self.gain
        moved = sums * self.step
        moved += gained
        return moved

    def sums_of_rows(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Of all numbers of some rows."""
        return self._products(_sides(self)[0][:, rows])

    def _products(self, left: Factors) -> NDArray[np.float32]:
        right = _sides(self)[1].astype(np.float32)
        return product(left.T * self._weights, right).reshape(-1)

    def _sums(self, first: int, count: int) -> NDArray[np.float32]:
        """Of numbers ``first`` and on, in order."""
        left, right = _sides(self)
        if count < self.columns:  # not whole rows for a few numbers
            rows, columns = np.divmod(np.arange(first, first + count), self.columns)
            weighted = left[:, rows] * self._weights[:, None]
            few: Array = (weighted * right[:, columns]).sum(axis=0)
            return few
        first_row, end_row = first // self.columns, -(-(first + count) // self.columns)
        start = first - first_row * self.columns
        return self._products(left[:, first_row:end_row])[start : start + count]


# --- bytes ------------------------------------------------------------------------------


def put_low_rank(one: LowRank) -> bytes:
    """Its parameters."""
    head = varints(one.source.number, one.target.number, one.rows, one.columns, len(one.shifts))
    bits = []
    for shift, left, right in zip(one.shifts, *_sides(one), strict=True):
        bits += [_bits(np.array([shift]), _SHIFT_BITS), _factor_bits(left), _factor_bits(right)]
    packed = np.packbits(np.concatenate(bits), bitorder="little").tobytes()
    return head + np.float32(one.gain).tobytes() + np.float32(one.step).tobytes() + packed


def factors_bits(one: LowRank) -> int:
    """What the factors take in the parameters."""
    return sum(_cheapest(_folded(factors))[0] for side in _sides(one) for factors in side)


def _sides(one: LowRank) -> tuple[Factors, Factors]:
    """Of shapes (rank, rows) and (rank, columns)."""
    left, right = (np.frombuffer(side, np.int8) for side in (one.left, one.right))
    return left.reshape(-1, one.rows), right.reshape(-1, one.columns)


def _folded(factors: Factors) -> NDArray[np.int64]:
    """0, 1, -1, 2, -2, ... as 0, 2, 1, 4, 3, ..."""
    wide = factors.astype(np.int64)
    return np.where(wide < 0, -2 * wide - 1, 2 * wide)


def _cheapest(folded: Array) -> tuple[int, int]:
    """The bits that they take, and of each how many as they are."""
    high_bits = np.bincount(folded, minlength=len(_SHIFTED)) @ _SHIFTED
    bits = high_bits + (1 + np.arange(1 << _LOW_BITS)) * len(folded)
    low = int(bits.argmin())
    return _LOW_BITS + int(bits[low]), low


def _factor_bits(factors: Factors) -> NDArray[np.uint8]:
    folded = _folded(factors)
    _, low = _cheapest(folded)
    ends = np.cumsum((folded >> low) + 1)
    unary = np.zeros(int(ends[-1]), np.uint8)
    unary[ends - 1] = 1
    return np.concatenate([_bits(np.array([low]), _LOW_BITS), _bits(folded, low), unary])


def _bits(numbers: NDArray[np.int64], width: int) -> NDArray[np.uint8]:
    """The lowest bits of each."""
    return ((numbers[:, None] >> np.arange(width)) & 1).astype(np.uint8).reshape(-1)


def parse_low_rank(cursor: Cursor) -> LowRank:
    """Takes all that is left. Raises: DeltaError for all that is not canonical."""
    source, target = parse_kind(cursor), parse_kind(cursor)
    possible = source.is_float and target.is_float and _FLOAT64 not in (source, target)
    if not possible and (source != target or source.is_float):
        raise cursor.error(f"makes {target.name} of {source.name}, which its map does not do")
    rows, columns, rank = cursor.varint(), cursor.varint(), cursor.varint()
    if not (rows and 1 <= columns <= COLUMNS_MAX and 1 <= rank <= RANK_MAX):
        raise cursor.error(f"has {rows} rows, {columns} columns, rank {rank}: not possible")
    if (rows + columns) * rank > FACTORS_MAX:
        raise cursor.error(f"has more than {FACTORS_MAX} factors")
    gain, step = np.frombuffer(cursor.take(8), "<f4")
    bits = cursor.rest()
    found = coder.factors(bits, rows, columns, rank)
    shifts, left, right = found or _parse_factors(cursor, bits, rows, columns, rank)
    if sum(1 << shift for shift in shifts) > WEIGHTS_MAX:
        raise cursor.error("has components that weigh too much")
    return LowRank(
        source=source,
        target=target,
        rows=rows,
        columns=columns,
        gain=gain,
        step=step,
        shifts=shifts,
        left=left,
        right=right,
    )


def _parse_factors(
    cursor: Cursor, bits: memoryview, rows: int, columns: int, rank: int
) -> coder.Factors:
    """Raises: DeltaError."""
    taken = _BitsIn(cursor, bits)
    components = [(taken.shift(), taken.factors(rows), taken.factors(columns)) for _ in range(rank)]
    taken.end()
    shifts, left, right = zip(*components, strict=True)
    return shifts, b"".join(left), b"".join(right)


class _BitsIn:
    """Takes bits, the lowest of each byte first. Raises: DeltaError from every method."""

    def __init__(self, cursor: Cursor, bits: memoryview) -> None:
        self._cursor = cursor
        self._bits = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")

    def shift(self) -> int:
        return self._number(_SHIFT_BITS)

    def factors(self, count: int) -> bytes:
        """The bytes of int8."""
        width = self._number(_LOW_BITS)
        low = np.zeros(count, np.uint8)
        for bit, taken in enumerate(self._take(count * width).reshape(count, width).T):
            low |= taken << np.uint8(bit)
        folded = (self._unary(count, 1 << (8 - width)) << np.uint8(width)) | low
        if _cheapest(folded)[1] != width:
            raise self._cursor.error("has factors that take fewer bits otherwise")
        return np.where(folded & 1, ~(folded >> 1), folded >> 1).view(np.int8).tobytes()

    def _unary(self, count: int, limit: int) -> NDArray[np.uint8]:
        """So many numbers, all below the limit."""
        parts, at, left = [], 0, count
        while left:
            window = self._bits[at : at + min(_WINDOW_BITS, _LIKELY_BITS * left)]
            if not len(window):
                raise self._cursor.error("ends within the factors of a map")
            ends = np.flatnonzero(window)[:left].astype(np.int32)
            parts.append(ends + np.int32(at))
            at, left = at + len(window), left - len(ends)
        ends = np.concatenate(parts)
        self._take(int(ends[-1]) + 1)
        numbers = np.diff(ends, prepend=np.int32(-1)) - np.int32(1)
        if numbers.max() >= limit:
            raise self._cursor.error("has too large a factor")
        return numbers.astype(np.uint8)

    def _number(self, width: int) -> int:
        return int(self._take(width) @ (1 << np.arange(width)))

    def _take(self, count: int) -> NDArray[np.uint8]:
        if count > len(self._bits):
            raise self._cursor.error("ends within the factors of a map")
        taken, self._bits = self._bits[:count], self._bits[count:]
        return taken

    def end(self) -> None:
        if len(self._bits) >= 8 or self._bits.any():
            raise self._cursor.error("has bits behind the factors of a map")
