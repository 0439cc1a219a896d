"""Ranges of the target with what predicts them, from all that the other modules find."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from edge_sdk.delta.alignment.fitting import Fitter, Scales
from edge_sdk.delta.alignment.layouts import Layout
from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.magnitudes import Magnitudes
from edge_sdk.delta.alignment.opaque_sources import find_in_opaque
from edge_sdk.delta.alignment.pairing import Pairing, Pairs
from edge_sdk.delta.alignment.ranges import AlignedRange, Fit, mapped_ranges
from edge_sdk.delta.alignment.regions import GAP_BYTES_MIN, Regions
from edge_sdk.delta.alignment.resized import Resized
from edge_sdk.delta.alignment.sampling import Sampler, count_of, number_kind
from edge_sdk.delta.alignment.training import Trained
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.numeric import kind_of

# A prediction of its own costs a table record, of about this size.
_MAPPED_BYTES_MIN = 192
# Fewer numbers save less by factors than it takes time to look for them.
_RESCALED_COUNT_MIN = 256
# Numbers of a known kind that nothing predicts: worth saying from this size on.
_UNPREDICTED_BYTES_MIN = 4 << 10
_CANDIDATES = 64
_CANDIDATES_COMPARED = 512
_SURE_CORRELATION = 0.9
_SCALE_CHANNELS_MAX = 1 << 20
_SCALES_COUNT_MAX = 4 << 20
_NAMED_SUFFIXES = ("_quantized", "_int8", "_uint8", "_fp16", "_float16")


def align(
    sources: Sequence[LocatedTensor],
    targets: Sequence[LocatedTensor],
    *,
    source_files: Sequence[OpenFile],
    target_files: Sequence[OpenFile],
    mapped: bool = True,
) -> dict[int, list[AlignedRange]]:
    """For each target file the ranges of which something is known, sorted, not overlapping.

    ``mapped``: whether predictions may be other than source bytes as they are.
    """
    with np.errstate(all="ignore"):  # tensors may hold anything
        ranges = _ranges(sources, targets, source_files, target_files, mapped=mapped)
    return {file: list(_apart(found)) for file, found in ranges.items() if found}


Ranges = dict[int, list[AlignedRange]]


def _ranges(
    sources: Sequence[LocatedTensor],
    targets: Sequence[LocatedTensor],
    source_files: Sequence[OpenFile],
    target_files: Sequence[OpenFile],
    *,
    mapped: bool,
) -> Ranges:
    source_sampler, target_sampler = Sampler(source_files), Sampler(target_files)
    pairs = Pairing(sources, targets, source_sampler, target_sampler).run(
        source_files, target_files
    )
    ranges: dict[int, list[AlignedRange]] = defaultdict(list)
    magnitudes = Magnitudes(source_files if mapped else (), target_sampler)
    if mapped:
        finder = _Finder(sources, targets, pairs, source_sampler, target_sampler)
        resized = Resized(sources, source_files, source_sampler, target_sampler)
        trained = Trained(source_files, source_sampler, target_sampler)
    for number, target in enumerate(targets):
        source = pairs.found.get(number)
        found = finder.find(number) if mapped else []
        if source is not None:
            found = found or [_plain(sources[source], target)]
            found = trained.find(sources[source], target, found) if mapped else found
            if len(found) == 1:
                found = magnitudes.find(target, found[0]) or found
        ranges[target.file] += found or (resized.find(target) if mapped else [])
    if mapped and source_files:
        strangers = [targets[number] for number in sorted(pairs.strangers)]
        _add_unread(
            ranges,
            sources,
            targets,
            strangers,
            source_files=source_files,
            target_files=target_files,
        )
    _add_unpredicted(ranges, targets, pairs, magnitudes)
    return ranges


def _add_unread(
    ranges: Ranges,
    sources: Sequence[LocatedTensor],
    targets: Sequence[LocatedTensor],
    strangers: Sequence[LocatedTensor],
    *,
    source_files: Sequence[OpenFile],
    target_files: Sequence[OpenFile],
) -> None:
    """Ranges that are found by content where one side has no reader."""
    opaque = sorted(set(range(len(source_files))) - {one.file for one in sources})
    if opaque:
        known = _Spans(ranges, strangers)
        left = [one for one in targets if not known.touch(one.file, one.tensor.offset, one.end)]
        for target, found in find_in_opaque(source_files, opaque, left, target_files):
            ranges[target.file].append(found)
    regions = Regions(source_files, sources, _used(ranges))
    known = _Spans(ranges, strangers)
    for number, file in enumerate(target_files):
        gaps = known.gaps(number, file.size_bytes)
        ranges[number] += regions.find(file, gaps)


def _add_unpredicted(
    ranges: Ranges, targets: Sequence[LocatedTensor], pairs: Pairs, magnitudes: Magnitudes
) -> None:
    """Tensors of which only the kind of number is known, or how large they are."""
    known = _Spans(ranges, ())
    for number, target in enumerate(targets):
        touched = known.touch(target.file, target.tensor.offset, target.end)
        if not touched and _says_something(target, number in pairs.strangers):
            ranges[target.file] += magnitudes.find(target) or [_unpredicted(target)]


def _apart(ranges: Sequence[AlignedRange]) -> Iterator[AlignedRange]:
    """Sorted, without what overlaps: two models may share the bytes of a tensor."""
    done = 0
    for one in sorted(ranges, key=lambda one: one.start):
        if one.start >= done:
            yield one
            done = one.end


class _Spans:
    """Bytes of target files of which something is known."""

    def __init__(self, ranges: Ranges, others: Sequence[LocatedTensor]) -> None:
        self._spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for file, found in ranges.items():
            self._spans[file] += ((one.start, one.end) for one in found)
        for one in others:
            self._spans[one.file].append((one.tensor.offset, one.end))
        for spans in self._spans.values():
            spans.sort()

    def touch(self, file: int, start: int, end: int) -> bool:
        spans = self._spans[file]
        at = bisect_left(spans, (end, 0))
        return at > 0 and spans[at - 1][1] > start

    def gaps(self, file: int, size_bytes: int) -> list[tuple[int, int]]:
        """The bytes between, where they are many."""
        found, done = [], 0
        for start, end in (*self._spans[file], (size_bytes, size_bytes)):
            if start - done >= GAP_BYTES_MIN:
                found.append((done, start))
            done = max(done, end)
        return found


def _used(ranges: Ranges) -> set[tuple[int, int]]:
    """File and offset of the source tensors that predict something."""
    return {
        (one.source_file, one.source_start)
        for found in ranges.values()
        for one in found
        if one.is_predicted
    }


def _says_something(target: LocatedTensor, stranger: bool) -> bool:
    numbers = kind_of(target.tensor.dtype) is not None
    return numbers and (stranger or target.tensor.length >= _UNPREDICTED_BYTES_MIN)


def _plain(source: LocatedTensor, target: LocatedTensor) -> AlignedRange:
    return AlignedRange(
        start=target.tensor.offset,
        end=target.end,
        source_file=source.file,
        source_start=source.tensor.offset,
        kind=kind_of(target.tensor.dtype),
    )


def _unpredicted(target: LocatedTensor) -> AlignedRange:
    return AlignedRange(
        start=target.tensor.offset,
        end=target.end,
        source_file=0,
        source_start=0,
        kind=kind_of(target.tensor.dtype),
        is_predicted=False,
    )


class _Finder:
    """Finds predictions that are more than source bytes as they are."""

    def __init__(
        self,
        sources: Sequence[LocatedTensor],
        targets: Sequence[LocatedTensor],
        pairs: Pairs,
        source_sampler: Sampler,
        target_sampler: Sampler,
    ) -> None:
        self._sources = sources
        self._targets = targets
        self._pairs = pairs
        self._source_sampler = source_sampler
        self._target_sampler = target_sampler
        self._fitter = Fitter(source_sampler, target_sampler)
        self._by_count: dict[int, list[LocatedTensor]] = defaultdict(list)
        for source in sources:
            if number_kind(source) is not None:
                self._by_count[count_of(source)].append(source)
        self._ranks = _ranks(targets)
        self._moments: dict[tuple[bool, int, int], tuple[float, ...]] = {}
        self._scales: dict[bool, list[Scales]] = {}

    def find(self, number: int) -> list[AlignedRange]:
        target = self._targets[number]
        if number_kind(target) is None or target.tensor.length < _MAPPED_BYTES_MIN:
            return []
        paired = self._pairs.found.get(number)
        if paired is not None:
            return self._rescaled(self._sources[paired], target)
        best: tuple[float, list[AlignedRange]] = 0.0, []
        stranger = number in self._pairs.strangers
        for source in self._candidates(target, only_named=stranger):
            layout, alike = self._fitter.layout(source, target)
            if layout is None or alike <= best[0]:
                continue
            fit = self._fit(source, target, layout)
            if fit is not None:
                best = alike, mapped_ranges(source, target, fit)
            if fit is not None and alike > _SURE_CORRELATION:
                break
        return best[1]

    def _rescaled(self, source: LocatedTensor, target: LocatedTensor) -> list[AlignedRange]:
        """A pair of one form whose numbers differ by factors."""
        kind = number_kind(target)
        if kind is None or not kind.is_float or count_of(target) < _RESCALED_COUNT_MIN:
            return []
        identity = Layout(((count_of(target), 1),))
        fit = self._fit(source, target, identity)
        return mapped_ranges(source, target, fit) if fit and fit.values is not None else []

    def _fit(self, source: LocatedTensor, target: LocatedTensor, layout: Layout) -> Fit | None:
        kind = number_kind(source)
        held_by_source = kind is not None and not kind.is_float
        return self._fitter.fit(
            source,
            target,
            layout,
            scales=lambda: self._scales_of(held_by_source),
            held_by_source=held_by_source,
        )

    def _scales_of(self, source: bool) -> list[Scales]:
        """What may be factors: of the source for what was quantised there, or of the target."""
        if source not in self._scales:
            tensors = self._sources if source else self._targets
            sampler = self._source_sampler if source else self._target_sampler
            self._scales[source] = _scales(tensors, sampler)
        return self._scales[source]

    def _candidates(self, target: LocatedTensor, *, only_named: bool) -> Iterator[LocatedTensor]:
        """Sources of as many numbers: those of the same name, then those of like numbers."""
        alike = self._by_count.get(count_of(target), [])
        stem = _stem(target.tensor.name)
        named = [one for one in alike if _stem(one.tensor.name) == stem]
        yield from named[:_CANDIDATES]
        if only_named:  # a tensor trained anew has no other counterpart either
            return
        others = [one for one in alike if _stem(one.tensor.name) != stem]
        if len(others) > _CANDIDATES_COMPARED:
            # Too many to compare all: those at about the same place of the file.
            rank, count = self._ranks[target.file, target.tensor.offset]
            middle = rank * len(others) // count
            start = max(0, middle - _CANDIDATES_COMPARED // 2)
            others = others[start : start + _CANDIDATES_COMPARED]
        if len(others) > _CANDIDATES:
            others.sort(key=lambda one: self._distance(one, target))
        yield from others[:_CANDIDATES]

    def _distance(self, source: LocatedTensor, target: LocatedTensor) -> float:
        before = self._moments_of(True, source, self._source_sampler)
        after = self._moments_of(False, target, self._target_sampler)
        distance = sum(abs(x - y) for x, y in zip(before[2:], after[2:], strict=True))
        kinds = (number_kind(source), number_kind(target))
        if all(kind is not None and kind.is_float for kind in kinds):
            tiny = 1e-30
            distance += abs(float(np.log((before[0] + tiny) / (after[0] + tiny))))
        return distance

    def _moments_of(
        self, is_source: bool, one: LocatedTensor, sampler: Sampler
    ) -> tuple[float, ...]:
        key = (is_source, one.file, one.tensor.offset)
        if key not in self._moments:
            self._moments[key] = sampler.moments(one)
        return self._moments[key]


def _ranks(targets: Sequence[LocatedTensor]) -> dict[tuple[int, int], tuple[int, int]]:
    """By file and offset the place of each tensor among those of its count, and how many."""
    by_count: dict[int, list[LocatedTensor]] = defaultdict(list)
    for one in targets:
        by_count[count_of(one)].append(one)
    return {
        (one.file, one.tensor.offset): (rank, len(alike))
        for alike in by_count.values()
        for rank, one in enumerate(alike)
    }


def _stem(name: str) -> str:
    """The name without what quantisers and casters add."""
    for suffix in _NAMED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def _scales(tensors: Sequence[LocatedTensor], sampler: Sampler) -> list[Scales]:
    """Small tensors of floats, each with the zero points that its name leads to."""
    by_name = {(one.path, one.tensor.name): one for one in tensors}
    found: list[Scales] = []
    held = 0
    for one in tensors:
        kind = number_kind(one)
        if kind is None or not kind.is_float or count_of(one) > _SCALE_CHANNELS_MAX:
            continue
        held += count_of(one)
        if held > _SCALES_COUNT_MAX:
            break
        zeros = _zeros_of(one, by_name)
        found.append(
            Scales(
                factors=one,
                zeros=zeros,
                numbers=sampler.all_values(one),
                zero_numbers=None if zeros is None else sampler.all_values(zeros),
            )
        )
    return found


def _zeros_of(
    one: LocatedTensor, by_name: Mapping[tuple[str, str], LocatedTensor]
) -> LocatedTensor | None:
    """The integers that are called zero point where this tensor is called scale."""
    name = one.tensor.name.replace("scale", "zero_point")
    zeros = by_name.get((one.path, name))
    kind = number_kind(zeros) if zeros is not None else None
    if zeros is None or kind is None or kind.is_float or kind.number < 0:
        return None
    return zeros if count_of(zeros) == count_of(one) else None
