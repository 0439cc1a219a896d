"""Orders that the numbers of a source tensor may stand in within the target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from edge_sdk.delta.alignment.sampling import Places
from edge_sdk.delta.strides import SourceRange

_PERMUTED_DIMENSIONS_MAX = 5


@dataclass(frozen=True, slots=True)
class Layout:
    """Counts and strides, in numbers of the source, of the target's dimensions; last fastest."""

    dimensions: tuple[tuple[int, int], ...]

    @property
    def is_identity(self) -> bool:
        return all(stride == 1 for _, stride in self.dimensions) and len(self.dimensions) <= 1

    def source_places(self, places: Places) -> Places:
        """Where in the source the numbers at places of the target stand."""
        found = np.zeros_like(places)
        rest = places
        for count, stride in reversed(self.dimensions):
            rest, index = np.divmod(rest, count)
            found += index * stride
        return found

    def part(self, first: int, count: int) -> tuple[int, Layout] | None:
        """Where in the source numbers ``first`` and on begin, and the layout of ``count``.

        None where they are not some of the first dimension, with all of the others.
        """
        (outer, stride), *others = self.dimensions or ((1, 1),)
        inner = math.prod(count for count, _ in others)
        if (first, count) == (0, outer * inner):
            return 0, self
        if first % inner or count % inner:
            return None
        return first // inner * stride, Layout(((count // inner, stride), *others))

    def source_range(self, file: int, offset: int, width_bytes: int) -> SourceRange:
        """The bytes of a tensor at ``offset`` in this order."""
        dimensions = [(count, stride * width_bytes) for count, stride in self.dimensions]
        length = width_bytes
        while dimensions and dimensions[-1][1] == length:
            length *= dimensions.pop()[0]
        return SourceRange(file=file, offset=offset, length=length, dimensions=tuple(dimensions))


def merged(dimensions: Sequence[tuple[int, int]]) -> Layout:
    """Without dimensions of one, neighbours that run on joined."""
    found: list[tuple[int, int]] = []
    for count, stride in dimensions:
        if count == 1:
            continue
        if found and found[-1][1] == count * stride:
            found[-1] = (found[-1][0] * count, stride)
        else:
            found.append((count, stride))
    return Layout(tuple(found))


def layouts(source: Sequence[int], target: Sequence[int]) -> Iterator[Layout]:
    """Every layout that permuted axes may have led to: of the source's shape or the target's.

    Both shapes hold equally many numbers. The identity comes first, each layout once.
    """
    before, after = ([one for one in shape if one > 1] for shape in (source, target))
    seen = {merged([(math.prod(before), 1)])}
    yield from seen
    for one in (*_permuted(before), *_permuting(after)):
        if one not in seen:
            seen.add(one)
            yield one


def row_major(shape: Sequence[int]) -> list[int]:
    """Strides of the axes of an array, in numbers."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _permuted(shape: Sequence[int]) -> Iterator[Layout]:
    """The source's axes in another order."""
    if len(shape) <= _PERMUTED_DIMENSIONS_MAX:
        strides = row_major(shape)
        for order in permutations(range(len(shape))):
            yield merged([(shape[axis], strides[axis]) for axis in order])


def _permuting(shape: Sequence[int]) -> Iterator[Layout]:
    """The target's axes, which stood in another order in the source."""
    if len(shape) <= _PERMUTED_DIMENSIONS_MAX:
        for order in permutations(range(len(shape))):
            strides = row_major([shape[axis] for axis in order])
            by_axis = dict(zip(order, strides, strict=True))
            yield merged([(shape[axis], by_axis[axis]) for axis in range(len(shape))])
