"""What was done to the numbers of a source tensor: cast, scaled by channel, quantised or the
inverse. Fitted on a sample; what it is worth shows where records are made."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.alignment.factors import fit_factors, relative_error
from edge_sdk.delta.alignment.layouts import Layout, layouts
from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.quantising import Scheme, schemes
from edge_sdk.delta.alignment.ranges import Fit
from edge_sdk.delta.alignment.sampling import (
    Places,
    Sampler,
    Values,
    as_values,
    count_of,
    normal,
    number_kind,
    scattered_places,
)
from edge_sdk.delta.strides import SourceRange
from edge_sdk.delta.value_maps import (
    NUMBER_KINDS,
    NumberKind,
    NumberList,
    Operation,
    ValueMap,
    cast,
)

_FLOAT32 = NUMBER_KINDS["float32"]
_LAYOUT_PLACES = 512
_LIKELY_CORRELATION = 0.3
# A look at a few rules most layouts out.
_FIRST_PLACES = 128
_FIRST_CORRELATION = 0.15
_SURE_CORRELATION = 0.999
# Numbers that differ by less need no factors, they were rounded or hardly trained.
_ROUNDING_ERROR = 2.0**-9
# Unless one factor leaves less than this share of it, as decay does.
_FACTOR_ERROR_SHARE = 0.25
_QUANTISED_SHARE_MIN = 0.6
_EXACT_SHARE = 0.98
# Where a model has more that may be the scales of a tensor, not all are tried.
_SCALES_TRIED = 64
# A tensor whose scales are computed is read as a whole.
_COMPUTED_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """A small tensor that may hold the factor of each channel, and its zero points."""

    factors: LocatedTensor
    zeros: LocatedTensor | None
    numbers: Values
    zero_numbers: Values | None


class Fitter:
    """Fits one tensor after the other."""

    def __init__(self, source_sampler: Sampler, target_sampler: Sampler) -> None:
        self._sources = source_sampler
        self._targets = target_sampler

    # --- layout -----------------------------------------------------------------------

    def layout(self, source: LocatedTensor, target: LocatedTensor) -> tuple[Layout | None, float]:
        """The order of the source that goes best with the target, and how well, from 0 to 1."""
        places = scattered_places(count_of(target), _LAYOUT_PLACES)
        y = self._targets.values(target, places)
        first = places[:_FIRST_PLACES]
        after_first, after = normal(y[:_FIRST_PLACES]), normal(y)
        # By chance alone few numbers correlate highly.
        best, found = max(_LIKELY_CORRELATION, 5 / len(places) ** 0.5), None
        for layout in layouts(source.tensor.shape, target.tensor.shape):
            x = self._sources.values(source, layout.source_places(first))
            if len(first) < len(places):
                if normal(x) @ after_first < _FIRST_CORRELATION:
                    continue
                x = self._sources.values(source, layout.source_places(places))
            if np.array_equal(x, y):
                return layout, 1.0
            alike = float(normal(x) @ after)
            if alike > best + 1e-6:
                best, found = alike, layout
            if alike > _SURE_CORRELATION:
                break
        return found, best if found is not None else 0.0

    # --- values -----------------------------------------------------------------------

    def fit(
        self,
        source: LocatedTensor,
        target: LocatedTensor,
        layout: Layout,
        *,
        scales: Callable[[], Sequence[Scales]],
        held_by_source: bool,
    ) -> Fit | None:
        """What turns the source's numbers, in that order, into the target's."""
        from_kind, to_kind = number_kind(source), number_kind(target)
        assert from_kind is not None and to_kind is not None
        case = _Case(self, source, target, layout, (from_kind, to_kind))
        if from_kind.is_float and to_kind.is_float:
            return case.cast_or_scaled()
        if to_kind.is_float:
            operation = Operation.DEQUANTISE
        elif from_kind.is_float:
            operation = Operation.QUANTISE
        else:
            return case.unchanged() if from_kind == to_kind else None
        if min(from_kind.number, to_kind.number) < 0:
            return None
        found = case.by_scales(operation, scales(), held_by_source=held_by_source)
        if found is None or found.equal_share < _EXACT_SHARE:
            found = case.by_weights(operation, found)
        return found


class _Case:
    """One source, one target, one layout."""

    def __init__(
        self,
        fitter: Fitter,
        source: LocatedTensor,
        target: LocatedTensor,
        layout: Layout,
        kinds: tuple[NumberKind, NumberKind],
    ) -> None:
        self._source = source
        self._target = target
        self._layout = layout
        self._from, self._to = kinds
        self._sampler = fitter._sources
        self._target_sampler = fitter._targets

    def _raw(self, places: Places) -> tuple[NDArray[Any], NDArray[Any]]:
        before = self._sampler.raw(self._source, self._layout.source_places(places))
        return before, self._target_sampler.raw(self._target, places)

    def _values(self, places: Places) -> tuple[Values, Values]:
        before, after = self._raw(places)
        return as_values(before, self._from), as_values(after, self._to)

    def unchanged(self) -> Fit:
        return Fit(layout=self._layout, values=None, equal_share=1.0)

    def cast_or_scaled(self) -> Fit:
        """A cast, unless factors by channel explain far more."""
        before, after = self._raw(scattered_places(count_of(self._target), 1024))
        with np.errstate(all="ignore"):
            predicted = cast(before, self._from, self._to)
        plain = None
        if self._from != self._to:
            plain = ValueMap(operation=Operation.CAST, source=self._from, target=self._to)
        equal = float(np.mean(predicted == after))
        fit = Fit(layout=self._layout, values=plain, equal_share=equal)
        x, y = as_values(predicted, self._to), as_values(after, self._to)
        if relative_error(x, y) < _ROUNDING_ERROR and not _by_one_factor(x, y):
            return fit
        return self._scaled() or fit

    def _scaled(self) -> Fit | None:
        found = fit_factors(self._values, self._axes(), count_of(self._target))
        if found is None:
            return None
        values = ValueMap(
            operation=Operation.SCALE,
            source=self._from,
            target=self._to,
            inner=found.inner,
            channels=found.channels,
            factors=found.numbers,
        )
        return Fit(layout=self._layout, values=values, equal_share=0.0)

    def _axes(self) -> Iterator[tuple[int, int]]:
        """Channels and inner of each axis that may have factors of its own; one for all first."""
        yield 1, 1
        inner = 1
        for count in reversed(self._target.tensor.shape):
            if count > 1:
                yield count, inner
            inner *= count

    # --- quantised --------------------------------------------------------------------

    def by_scales(
        self, operation: Operation, scales: Sequence[Scales], *, held_by_source: bool
    ) -> Fit | None:
        """Quantised or the inverse, with the candidate for factors that explains most."""
        places = scattered_places(count_of(self._target), 1024)
        before, after = self._raw(places)
        best: Fit | None = None
        for channels, inner in self._axes():
            fitting = [one for one in scales if len(one.numbers) == channels]
            for one in _likely(fitting, self._source if held_by_source else self._target):
                values = self._map(operation, one, channels, inner, held_by_source=False)
                share = _share(values, before, after, places)
                if share >= _QUANTISED_SHARE_MIN and (best is None or share > best.equal_share):
                    if held_by_source:
                        values = self._map(operation, one, channels, inner, held_by_source=True)
                    best = Fit(layout=self._layout, values=values, equal_share=share)
        return best

    def by_weights(self, operation: Operation, known: Fit | None) -> Fit | None:
        """The same with factors that are computed; ``known`` where they explain no more."""
        best = known
        places = scattered_places(count_of(self._target), 1024)
        before, after = self._raw(places)
        for scheme in self._schemes(operation):
            values = ValueMap(
                operation=operation,
                source=self._from,
                target=self._to,
                inner=scheme.inner,
                channels=scheme.channels,
                factors=scheme.factors,
                zeros=scheme.zeros,
            )
            share = _share(values, before, after, places)
            if share > (best.equal_share if best else _QUANTISED_SHARE_MIN):
                best = Fit(layout=self._layout, values=values, equal_share=share)
        return best

    def _schemes(self, operation: Operation) -> Iterator[Scheme]:
        if operation == Operation.DEQUANTISE:
            found = fit_factors(self._values, self._axes(), count_of(self._target))
            if found is not None:
                yield Scheme(
                    channels=found.channels, inner=found.inner, factors=found.numbers, zeros=None
                )
        elif self._source.tensor.length <= _COMPUTED_BYTES_MAX:
            held = self._layout.source_range(0, 0, self._from.width_bytes)
            data = held.read(
                0,
                held.total_bytes,
                lambda _file, at, length: self._sampler.bytes_of(self._source, at, length),
            )
            numbers = as_values(np.frombuffer(data, self._from.storage), self._from)
            yield from schemes(numbers.astype(np.float32), self._axes(), self._to)

    def _map(
        self,
        operation: Operation,
        scales: Scales,
        channels: int,
        inner: int,
        *,
        held_by_source: bool,
    ) -> ValueMap:
        zeros = None
        numbers = scales.zero_numbers
        if scales.zeros is not None and numbers is not None and np.any(numbers):
            zeros = _number_list(scales.zeros, numbers, held_by_source)
        return ValueMap(
            operation=operation,
            source=self._from,
            target=self._to,
            inner=inner,
            channels=channels,
            factors=_number_list(scales.factors, scales.numbers, held_by_source),
            zeros=zeros,
        )


def _likely(scales: Sequence[Scales], quantised: LocatedTensor) -> Sequence[Scales]:
    """Those whose names are most like the tensor's, where they are too many to try all: beside it
    in the order of names, and of names read from their ends."""
    if len(scales) <= _SCALES_TRIED:
        return scales
    found: list[Scales] = []
    for step in (1, -1):
        ranked = sorted(scales, key=lambda one: one.factors.tensor.name[::step])
        names = [one.factors.tensor.name[::step] for one in ranked]
        start = bisect_left(names, quantised.tensor.name[::step]) - _SCALES_TRIED // 4
        start = min(max(0, start), len(ranked) - _SCALES_TRIED // 2)
        found += ranked[start : start + _SCALES_TRIED // 2]
    return found


def _by_one_factor(x: Values, y: Values) -> bool:
    """Whether one factor near 1 explains nearly all of what little the numbers differ by."""
    known = (x != 0) & (y != 0) & np.isfinite(x) & np.isfinite(y)
    if not np.any(known):
        return False
    factor = np.median(y[known] / x[known])
    return relative_error(x * factor, y) < _FACTOR_ERROR_SHARE * relative_error(x, y)


def _number_list(one: LocatedTensor, numbers: Values, held_by_source: bool) -> NumberList:
    kind = number_kind(one)
    assert kind is not None
    if held_by_source:
        held = SourceRange(file=one.file, offset=one.tensor.offset, length=one.tensor.length)
        return NumberList(kind=kind, content=held)
    if kind.is_float:
        return NumberList(kind=_FLOAT32, content=numbers.astype("<f4").tobytes())
    return NumberList(kind=kind, content=numbers.astype(kind.storage).tobytes())


def _share(values: ValueMap, before: NDArray[Any], after: NDArray[Any], places: Places) -> float:
    """Of the sampled numbers, how many the map makes exactly."""
    made = values.apply_at(before, places)
    return float(np.mean(made == after))
