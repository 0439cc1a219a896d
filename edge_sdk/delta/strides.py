"""Ranges of a source, plain or strided, and reading any part of one in bounded memory.

Source: FORMAT.md, "Predictions".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import DeltaError
from edge_sdk.delta.container import FileRef
from edge_sdk.delta.varint import VALUE_MAX, Cursor, put_signed, put_varint, varints

ReadSource = Callable[[int, int, int], bytes]
"""(source file, offset, length) to exactly these bytes, or an error."""

Items = NDArray[Any]

DIMENSIONS_MAX = 8
# Runs are read together up to this span, as long as no more lies between two of them than is
# read as fast as a second read is made.
_WINDOW_BYTES = 512 << 10
SKIPPED_BYTES_MAX = 16 << 10
_NATIVE_WIDTHS = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRange:
    """``length`` bytes of one source file at each combination of the dimensions' indices.

    ``dimensions`` are pairs of count and stride in bytes, the last one fastest; without any,
    the range is ``length`` bytes at ``offset``.
    """

    file: int
    offset: int
    length: int
    dimensions: tuple[tuple[int, int], ...] = ()

    @property
    def total_bytes(self) -> int:
        return self.length * math.prod(count for count, _ in self.dimensions)

    @property
    def extent(self) -> tuple[int, int]:
        """Where the first of its bytes lies in the file, and where the last one ends."""
        reach = [(count - 1) * stride for count, stride in self.dimensions]
        first = self.offset + sum(min(0, one) for one in reach)
        return first, self.offset + sum(max(0, one) for one in reach) + self.length

    @property
    def is_woven(self) -> bool:
        """Whether runs of one outer index begin among those of another, other than again."""
        steps = ((abs(stride), count) for count, stride in self.dimensions if count > 1)
        reach = 0
        for step, count in sorted(steps):
            if 0 < step <= reach:
                return True
            reach += (count - 1) * step
        return False

    def work(self, position: int, length: int) -> int:
        """What reading a part counts (FORMAT.md, "Work")."""
        if not self.dimensions:
            return 1
        runs = (position + length - 1) // self.length - position // self.length + 1
        first, end = self.extent
        return min(runs, -(-(end - first) // SKIPPED_BYTES_MAX))

    def read(self, position: int, length: int, read_source: ReadSource) -> bytes | bytearray:
        """``length`` bytes from ``position`` of the range on; both lie within it."""
        if not self.dimensions:
            return read_source(self.file, self.offset + position, length)
        end = position + length
        first, last = -(-position // self.length), end // self.length
        if first > last:
            return self._part(position, length, read_source)
        head, tail = first * self.length - position, end - last * self.length
        out = bytearray(length)
        if head:
            memoryview(out)[:head] = self._part(position, head, read_source)
        item = f"u{self.length}" if self.length in _NATIVE_WIDTHS else f"V{self.length}"
        at = head
        for start, shape in _boxes(first, last, [count for count, _ in self.dimensions]):
            box: Items = np.ndarray(shape, item, out, at)
            self._fill_box(box, start, read_source)
            at += box.nbytes
        if tail:
            memoryview(out)[at:] = self._part(last * self.length, tail, read_source)
        return out

    def _part(self, position: int, length: int, read_source: ReadSource) -> bytes:
        """Bytes within one run."""
        run, at = divmod(position, self.length)
        for count, stride in reversed(self.dimensions):
            run, index = divmod(run, count)
            at += index * stride
        return read_source(self.file, self.offset + at, length)

    def _fill_box(self, box: Items, start: Sequence[int], read_source: ReadSource) -> None:
        """The runs of a box of indices from ``start`` on, in their order."""
        strides = [stride for _, stride in self.dimensions]
        at = self.offset + sum(i * stride for i, stride in zip(start, strides, strict=True))
        view = box
        for axis, (count, stride) in enumerate(zip(box.shape, strides, strict=True)):
            if stride < 0:
                at += (count - 1) * stride
                view = np.flip(view, axis)
        order = sorted(range(len(strides)), key=lambda axis: -abs(strides[axis]))
        _fill(
            view.transpose(order),
            at,
            [abs(strides[axis]) for axis in order],
            lambda offset, length: read_source(self.file, offset, length),
        )


def _boxes(
    start: int, end: int, counts: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Cuts items ``start`` to ``end`` of an array of shape ``counts`` into boxes, in order.

    Yields first indices and counts of each; there are at most two for each dimension.
    """
    if start >= end:
        return
    if len(counts) == 1:
        yield (start,), (end - start,)
        return
    inner = math.prod(counts[1:])
    first, last = -(-start // inner), end // inner
    if first > last:
        yield from _boxes_at(first - 1, start, end, counts)
        return
    yield from _boxes_at(first - 1, start, first * inner, counts)
    if first < last:
        yield (first, *(0 for _ in counts[1:])), (last - first, *counts[1:])
    yield from _boxes_at(last, last * inner, end, counts)


def _boxes_at(
    index: int, start: int, end: int, counts: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Boxes within one index of the first dimension."""
    before = index * math.prod(counts[1:])
    for first, box in _boxes(start - before, end - before, counts[1:]):
        yield (index, *first), (1, *box)


def _fill(box: Items, at: int, strides: Sequence[int], read: Callable[[int, int], bytes]) -> None:
    """Fills ``box`` with runs at ``at`` and sums of index times stride behind it.

    Strides descend; none is negative.
    """
    spans = [box.dtype.itemsize]  # of the dimensions from each one on
    for count, stride in zip(reversed(box.shape), reversed(strides), strict=True):
        spans.insert(0, spans[0] + (count - 1) * stride)
    depth = box.ndim
    while (
        depth and spans[depth - 1] <= _WINDOW_BYTES and _is_dense(strides[depth - 1], spans[depth])
    ):
        depth -= 1
    if depth > 1:
        for index, part in enumerate(box):
            _fill(part, at + index * strides[0], strides[1:], read)
        return
    group = len(box)
    if depth:  # not all of the first dimension fits a window, but some of it may
        group = (_WINDOW_BYTES - spans[1]) // max(1, strides[0]) + 1
        group = max(1, group) if _is_dense(strides[0], spans[1]) else 1
    for first in range(0, len(box), group):
        part = box[first : first + group]
        span = spans[1] + (len(part) - 1) * strides[0]
        data = read(at + first * strides[0], span)
        if len(data) != span:
            raise DeltaError("a source ends where it did not when it was opened")
        part[...] = np.ndarray(part.shape, box.dtype, data, 0, strides)


def _is_dense(stride: int, inner_span: int) -> bool:
    return stride - inner_span <= SKIPPED_BYTES_MAX


def put_range(one: SourceRange) -> bytes:
    """A range as predictions and value maps name it."""
    out = bytearray(varints(one.file, one.offset, one.length, len(one.dimensions)))
    for count, stride in one.dimensions:
        put_varint(out, count)
        put_signed(out, stride)
    return bytes(out)


def parse_range(cursor: Cursor, sources: Sequence[FileRef]) -> SourceRange:
    """Raises: DeltaError: malformed, or past a source's end."""
    file, offset, length = cursor.varint(), cursor.varint(), cursor.varint()
    dimension_count = cursor.varint()
    if dimension_count > DIMENSIONS_MAX:
        raise cursor.error(f"has a source range of {dimension_count} dimensions: too many")
    dimensions = [(cursor.varint(), cursor.signed()) for _ in range(dimension_count)]
    one = SourceRange(file=file, offset=offset, length=length, dimensions=tuple(dimensions))
    if one.total_bytes == 0:
        raise cursor.error("has an empty source range")
    if one.total_bytes > VALUE_MAX:
        raise cursor.error("predicts an impossible number of bytes")
    if one.is_woven:
        raise cursor.error("has a source range whose dimensions run into each other")
    first, end = one.extent
    if file >= len(sources) or first < 0 or end > sources[file].size_bytes:
        raise cursor.error("predicts from bytes that no source has")
    return one


def sequence_work(ranges: Sequence[SourceRange], position: int, length: int) -> int:
    """What reading a part of ranges that stand one after the other counts."""
    return sum(one.work(at, part) for one, at, part in _parts(ranges, position, length))


def sequence_bytes(ranges: Sequence[SourceRange]) -> int:
    return sum(one.total_bytes for one in ranges)


def read_sequence(
    ranges: Sequence[SourceRange], position: int, length: int, read_source: ReadSource
) -> bytes | bytearray:
    """Bytes of ranges that stand one after the other. Raises: DeltaError (past the end)."""
    if position + length > sequence_bytes(ranges):
        raise DeltaError("a record uses more of a prediction than there is")
    parts = [one.read(at, part, read_source) for one, at, part in _parts(ranges, position, length)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _parts(
    ranges: Sequence[SourceRange], position: int, length: int
) -> Iterator[tuple[SourceRange, int, int]]:
    """The ranges that hold these bytes of all, with the position and length in each."""
    for one in ranges:
        held = one.total_bytes
        if position < held and length:
            part = min(length, held - position)
            yield one, position, part
            position, length = held, length - part
        position -= held
