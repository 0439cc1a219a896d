"""Bytes of the target that no reader knows, found by their content in views of the source.

A view is what source bytes may have become: a tensor in another order or width, an opaque
file cast (views.py). Matches of one view that lie near to each other are one range: what is
between them is the same numbers, changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from edge_sdk.base import CHUNK_BYTES
from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.ranges import AlignedRange
from edge_sdk.delta.alignment.views import ReadView, View, opaque_views, tensor_views, text_views
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.matching import Match, SourceIndex
from edge_sdk.delta.prediction import Prediction
from edge_sdk.delta.text_map import TextMap

# What is worth a search, what a range must save, and how far apart matches may lie in it.
GAP_BYTES_MIN = 4 << 10
_REGION_BYTES_MIN = 512
_JOINED_BYTES_MAX = 4 << 10
# Views are read once, as a whole; beyond this it takes too long.
_VIEWS_BYTES_MAX = 256 << 20
_VIEWS_PER_GAP_MAX = 32
# Opaque files are cast where the target is about as large as that makes it.
_CAST_SHARES = ((0.35, 0.7), (1.4, 2.8))

Gaps = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Target bytes that a view holds; ``shift`` is the place in the view less that there."""

    start: int
    end: int
    view: int
    shift: int

    def joined(self, other: _Found) -> _Found | None:
        """Both as one; None where they are not of one view, or too far apart."""
        alike = (other.view, other.shift) == (self.view, self.shift)
        if not alike or other.start - self.end > _JOINED_BYTES_MAX:
            return None
        return replace(self, end=other.end)


class Regions:
    """Looks for views of one source in target files."""

    def __init__(
        self,
        files: Sequence[OpenFile],
        sources: Sequence[LocatedTensor],
        used: Collection[tuple[int, int]],
    ) -> None:
        """``used``: file and offset of tensors that need no search, they predict others."""
        self._files = files
        self._sources = [one for one in sources if (one.file, one.tensor.offset) not in used]
        self._opaque = sorted(set(range(len(files))) - {one.file for one in sources})
        self._texts: list[View] | None = None
        self._indexes: dict[bool, tuple[list[View], SourceIndex]] = {}

    def find(self, target: OpenFile, gaps: Gaps) -> list[AlignedRange]:
        """Ranges within the gaps of a target file, sorted, not overlapping."""
        gap_bytes = sum(end - start for start, end in gaps)
        opaque = self._may_be_cast(gap_bytes)
        views_bytes = sum(view.size_bytes for view in self._views(opaque=opaque))
        if not 0 < views_bytes <= _VIEWS_PER_GAP_MAX * gap_bytes:
            return []
        views, index = self._index(opaque=opaque)
        found: list[AlignedRange] = []
        for start, end in gaps:
            for one in _joined(_matches(index, target, start, end)):
                ranged = _ranged(views[one.view], one)
                if ranged is not None:
                    found.append(ranged)
        return found

    def _may_be_cast(self, gap_bytes: int) -> bool:
        source_bytes = sum(self._files[file].size_bytes for file in self._opaque)
        return any(low <= gap_bytes / max(1, source_bytes) <= high for low, high in _CAST_SHARES)

    def _index(self, *, opaque: bool) -> tuple[list[View], SourceIndex]:
        if opaque not in self._indexes:
            views = list(self._views(opaque=opaque))
            index = SourceIndex([ReadView(view, self._files) for view in views])
            self._indexes[opaque] = views, index
        return self._indexes[opaque]

    def _views(self, *, opaque: bool) -> Iterator[View]:
        left_bytes = _VIEWS_BYTES_MAX
        for view in self._all_views(opaque=opaque):
            if _REGION_BYTES_MIN <= view.size_bytes <= left_bytes:
                left_bytes -= view.size_bytes
                yield view

    def _all_views(self, *, opaque: bool) -> Iterator[View]:
        for one in self._sources:
            yield from tensor_views(one)
        if self._texts is None:
            files = ((number, self._files[number]) for number in self._opaque)
            self._texts = [view for one in files for view in text_views(*one)]
        yield from self._texts
        for file in self._opaque if opaque else ():
            yield from opaque_views(file, self._files[file].size_bytes)


def _matches(index: SourceIndex, target: OpenFile, start: int, end: int) -> Iterator[_Found]:
    for at in range(start, end, CHUNK_BYTES):
        match: Match
        for match in index.matches(target.read(at, min(CHUNK_BYTES, end - at))):
            yield _Found(
                start=at + match.start,
                end=at + match.end,
                view=match.source_file,
                shift=match.source_start - at - match.start,
            )


def _joined(matches: Iterator[_Found]) -> Iterator[_Found]:
    waiting: _Found | None = None
    for one in matches:
        together = waiting.joined(one) if waiting else None
        if waiting and not together:
            yield waiting
        waiting = together or one
    if waiting:
        yield waiting


def _ranged(view: View, found: _Found) -> AlignedRange | None:
    """The whole elements of a view that lie in what was found."""
    width = view.kind.width_bytes
    start = found.start + -(found.start + found.shift) % width
    end = found.end - (found.end + found.shift) % width
    if end - start < _REGION_BYTES_MIN:
        return None
    prediction, position = view.prediction, start + found.shift
    (held,), values = prediction.ranges, prediction.values
    if not held.dimensions and not isinstance(values, TextMap):
        source_width = values.source.width_bytes if values else width
        first = position // width * source_width
        length = (end - start) // width * source_width
        held = replace(held, offset=held.offset + first, length=length)
        prediction, position = Prediction(ranges=(held,), values=values), 0
    return AlignedRange(
        start=start,
        end=end,
        source_file=prediction.ranges[0].file,
        source_start=prediction.ranges[0].offset,
        kind=view.kind,
        prediction=prediction,
        position=position,
    )
