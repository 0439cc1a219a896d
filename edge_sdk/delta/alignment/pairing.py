"""Which tensor of the source each tensor of the target is compared with, where both have one
dtype and shape.

By path and name; by name without the path or a prefix; what is left by its content, since
exporters rename; then by correlation; and then by its order. Names prove nothing: a pair of
which the numbers have nothing in common (a tensor trained anew) is taken apart again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from edge_sdk.base import CHUNK_BYTES
from edge_sdk.delta.alignment.located import LocatedTensor
from edge_sdk.delta.alignment.sampling import (
    Sampler,
    Values,
    correlation,
    count_of,
    normal,
    number_kind,
)
from edge_sdk.delta.files import OpenFile

# Fewer numbers than this say nothing by their correlation.
TELLING_COUNT = 64
_CORRELATION_COUNT = 1024
_CANDIDATES_MAX = 1 << 20
_SAMPLES_MAX = 1 << 13
# Below these shares a prediction saves less than a hundredth (measured on retrained models).
_RELATED_CORRELATION = 0.1
_RELATED_EQUAL_SHARE = 0.05
_FOUND_CORRELATION = 0.25

Key = Callable[[LocatedTensor], Hashable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Numbers of sources by those of targets; ``strangers``: targets unlike their namesake."""

    found: dict[int, int] = field(default_factory=dict)
    strangers: set[int] = field(default_factory=set)


class Pairing:
    """Pairs the tensors of two artifacts."""

    def __init__(
        self,
        sources: Sequence[LocatedTensor],
        targets: Sequence[LocatedTensor],
        source_sampler: Sampler,
        target_sampler: Sampler,
    ) -> None:
        self._sources = sources
        self._targets = targets
        self._free = set(range(len(sources)))
        self._source_sampler = source_sampler
        self._target_sampler = target_sampler
        self._pairs = Pairs()

    def run(self, source_files: Sequence[OpenFile], target_files: Sequence[OpenFile]) -> Pairs:
        for source_key, target_key in _by_names():
            self._pair(source_key, target_key)
        self._part_strangers()
        self._pair(_by_content(source_files), _by_content(target_files))
        self._pair_by_correlation()
        before = set(self._pairs.found)
        self._pair(by_form, by_form)
        self._part_strangers(before)
        return self._pairs

    def _unpaired(self) -> dict[int, LocatedTensor]:
        found = self._pairs.found
        return {n: target for n, target in enumerate(self._targets) if n not in found}

    def _pair(self, source_key: Key, target_key: Key) -> None:
        """Pairs what is not paired yet with the first free source of the same form and key."""
        unpaired = self._unpaired()
        forms = {by_form(target) for target in unpaired.values()}
        waiting: dict[Hashable, list[int]] = defaultdict(list)
        for number in sorted(self._free, reverse=True):
            source = self._sources[number]
            if by_form(source) in forms:  # keys by content cost a read
                waiting[source_key(source), by_form(source)].append(number)
        forms = {by_form(self._sources[one]) for numbers in waiting.values() for one in numbers}
        for number, target in unpaired.items():
            form = by_form(target)
            candidates = waiting.get((target_key(target), form)) if form in forms else None
            if candidates:
                self._join(candidates.pop(), number)

    def _join(self, source: int, target: int) -> None:
        self._free.remove(source)
        self._pairs.found[target] = source

    def _part_strangers(self, kept: Collection[int] = ()) -> None:
        """Takes pairs apart that have nothing in common; their sources are free again."""
        for target, source in list(self._pairs.found.items()):
            if target in kept:
                continue
            if not self._is_related(self._sources[source], self._targets[target]):
                self._free.add(source)
                del self._pairs.found[target]
                self._pairs.strangers.add(target)

    def _is_related(self, source: LocatedTensor, target: LocatedTensor) -> bool:
        if number_kind(source) is None or count_of(source) < TELLING_COUNT:
            return True
        x, y = self._source_sampler.spread(source), self._target_sampler.spread(target)
        if np.mean(x == y) >= _RELATED_EQUAL_SHARE:
            return True
        return correlation(x, y) >= _RELATED_CORRELATION

    def _pair_by_correlation(self) -> None:
        sources: dict[Hashable, list[int]] = defaultdict(list)
        targets: dict[Hashable, list[int]] = defaultdict(list)
        for number in sorted(self._free):
            sources[by_form(self._sources[number])].append(number)
        for number, target in self._unpaired().items():
            targets[by_form(target)].append(number)
        for form, numbers in targets.items():
            one = self._targets[numbers[0]]
            telling = number_kind(one) is not None and count_of(one) >= TELLING_COUNT
            count = len(sources[form])
            few = count + len(numbers) <= _SAMPLES_MAX and count * len(numbers) <= _CANDIDATES_MAX
            if telling and count and few:
                self._pair_most_alike(sources[form], numbers)

    def _pair_most_alike(self, sources: list[int], targets: list[int]) -> None:
        """Pairs the two of the highest correlation, then the next two, and so on."""
        before = self._normals(self._source_sampler, [self._sources[one] for one in sources])
        after = self._normals(self._target_sampler, [self._targets[one] for one in targets])
        alike = before @ after.T
        enough = max(_FOUND_CORRELATION, 5 / np.sqrt(before.shape[1]))
        # Rounded, so that the order does not depend on the order of a sum.
        order = np.argsort(-np.round(alike, 6), axis=None, kind="stable")
        for place in order.tolist():
            row, column = divmod(place, len(targets))
            if alike[row, column] < enough:
                return
            if sources[row] in self._free and targets[column] not in self._pairs.found:
                self._join(sources[row], targets[column])

    @staticmethod
    def _normals(sampler: Sampler, tensors: Sequence[LocatedTensor]) -> Values:
        return np.stack([normal(sampler.spread(one, _CORRELATION_COUNT)) for one in tensors])


def by_form(one: LocatedTensor) -> Hashable:
    return one.tensor.dtype, tuple(one.tensor.shape), one.tensor.length


def _by_names() -> Iterator[tuple[Key, Key]]:
    yield _by_path, _by_path
    yield _by_name(0), _by_name(0)
    for dropped in (1, 2, 3):
        yield _by_name(dropped), _by_name(0)
        yield _by_name(0), _by_name(dropped)
    yield _by_name(1), _by_name(1)


def _by_path(one: LocatedTensor) -> Hashable:
    return one.path, one.tensor.name


def _by_name(dropped: int) -> Key:
    """The name without its first segments; of two segments at least, a last one says little."""

    def key(one: LocatedTensor) -> Hashable:
        segments = one.tensor.name.replace("/", ".").split(".")
        if dropped and len(segments) < dropped + 2:
            return id(one)
        return tuple(segments[dropped:])

    return key


def _by_content(files: Sequence[OpenFile]) -> Key:
    def key(one: LocatedTensor) -> Hashable:
        content = hashlib.sha256()
        for at in range(one.tensor.offset, one.end, CHUNK_BYTES):
            content.update(files[one.file].read(at, min(CHUNK_BYTES, one.end - at)))
        return content.digest()

    return key
