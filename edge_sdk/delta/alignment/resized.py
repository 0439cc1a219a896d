"""Tensors that lost or gained some of one axis: a vocabulary that grew, features cut off."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.ranges import AlignedRange
from edge_sdk.delta.alignment.sampling import (
    Places,
    Sampler,
    correlation,
    number_kind,
    scattered_places,
)
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.numeric import kind_of
from edge_sdk.delta.prediction import Prediction
from edge_sdk.delta.strides import SourceRange

_SAMPLED = 512
_LIKELY_CORRELATION = 0.3
_CANDIDATES_MAX = 8
_SAMPLED_MIN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class _Resize:
    """``outer`` rows of ``before`` items each that became ``after`` items, of ``inner`` numbers.

    The items that both have stand at the beginning of a row, or at its end.
    """

    outer: int
    before: int
    after: int
    inner: int
    at_end: bool

    @property
    def common(self) -> int:
        return min(self.before, self.after)

    def places(self, wanted: Places, items: int) -> Places:
        """Where numbers of the common part stand, in rows of so many items."""
        row, within = np.divmod(wanted, self.common * self.inner)
        skipped = items - self.common if self.at_end else 0
        found: Places = (row * items + skipped) * self.inner + within
        return found


class Resized:
    """Looks for the source of tensors of which one axis differs."""

    def __init__(
        self,
        sources: Sequence[LocatedTensor],
        files: Sequence[OpenFile],
        source_sampler: Sampler,
        target_sampler: Sampler,
    ) -> None:
        self._files = files
        self._source_sampler = source_sampler
        self._target_sampler = target_sampler
        self._by_rest: dict[tuple[str, int, tuple[int, ...]], list[LocatedTensor]]
        self._by_rest = defaultdict(list)
        for one in sources:
            for axis, rest in _rests(one):
                self._by_rest[one.tensor.dtype, axis, rest].append(one)

    def find(self, target: LocatedTensor) -> list[AlignedRange]:
        """The ranges that the best source predicts; none if no source is likely."""
        best: tuple[float, LocatedTensor, _Resize] | None = None
        for source, resize in self._candidates(target):
            alike = self._likeness(source, target, resize)
            if alike >= _LIKELY_CORRELATION and (best is None or alike > best[0]):
                best = alike, source, resize
        return self._ranges(best[1], target, best[2]) if best else []

    def _candidates(self, target: LocatedTensor) -> Iterator[tuple[LocatedTensor, _Resize]]:
        for axis, rest in _rests(target):
            alike = self._by_rest.get((target.tensor.dtype, axis, rest), [])
            found = [one for one in alike if one.tensor.shape != target.tensor.shape]
            found.sort(key=lambda one: one.tensor.name != target.tensor.name)
            for source in found[:_CANDIDATES_MAX]:
                one = _Resize(
                    outer=math.prod(rest[:axis]),
                    before=source.tensor.shape[axis],
                    after=target.tensor.shape[axis],
                    inner=math.prod(rest[axis:]),
                    at_end=False,
                )
                yield source, one
                yield source, replace(one, at_end=True)

    def _likeness(self, source: LocatedTensor, target: LocatedTensor, resize: _Resize) -> float:
        wanted = scattered_places(resize.outer * resize.common * resize.inner, _SAMPLED)
        if len(wanted) < _SAMPLED_MIN:
            return 0.0
        x = self._source_sampler.values(source, resize.places(wanted, resize.before))
        y = self._target_sampler.values(target, resize.places(wanted, resize.after))
        return 1.0 if np.array_equal(x, y) else correlation(x, y)

    def _ranges(
        self, source: LocatedTensor, target: LocatedTensor, resize: _Resize
    ) -> list[AlignedRange]:
        """Rows as they are; what a row gained is predicted by its neighbours in the source."""
        kind = number_kind(source)
        assert kind is not None
        width = resize.inner * kind.width_bytes
        row, source_row = resize.after * width, resize.before * width
        first = source.tensor.offset
        if resize.at_end:
            first += source_row - row
        outer = resize.outer
        if outer == 1:
            gained = max(0, resize.after - resize.before) * width
            before, behind = (gained, 0) if resize.at_end else (0, gained)
            return [_plain(source, target, first + before, before, behind)]
        start, end = 0, outer  # rows whose bytes lie within the file, what they gained too
        if first < 0:
            start = -(first // source_row)
        while (
            end > start
            and first + (end - 1) * source_row + row > self._files[source.file].size_bytes
        ):
            end -= 1
        if start >= end:
            return []
        offset = first + start * source_row
        held = SourceRange(
            file=source.file, offset=offset, length=row, dimensions=((end - start, source_row),)
        )
        return [
            AlignedRange(
                start=target.tensor.offset + start * row,
                end=target.tensor.offset + end * row,
                source_file=source.file,
                source_start=offset,
                kind=kind_of(target.tensor.dtype),
                prediction=Prediction(ranges=(held,)),
            )
        ]


def _plain(
    source: LocatedTensor, target: LocatedTensor, offset: int, before: int, behind: int
) -> AlignedRange:
    """The target without bytes that it gained at its ends."""
    return AlignedRange(
        start=target.tensor.offset + before,
        end=target.end - behind,
        source_file=source.file,
        source_start=offset,
        kind=kind_of(target.tensor.dtype),
    )


def _rests(one: LocatedTensor) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each axis, and the shape without it."""
    if number_kind(one) is not None:
        for axis in range(len(one.tensor.shape)):
            yield axis, one.tensor.shape[:axis] + one.tensor.shape[axis + 1 :]
