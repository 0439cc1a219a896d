"""How numbers are coded best, and whether at all: what is smallest, in order of promise."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.coder.guess import guessed_bits
from edge_sdk.delta.coder.leaning import Leans
from edge_sdk.delta.coder.policy import Choice, Policy
from edge_sdk.delta.coder.tables import ALONE, CodeTable
from edge_sdk.delta.container import CODE_SLOTS
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.frames import Bytes, Effort, Packer
from edge_sdk.delta.methods import Method, Planes, Residual
from edge_sdk.delta.methods.elements import Split
from edge_sdk.delta.numeric import KINDS, Bits, ElementKind
from edge_sdk.delta.phase import likely_phase
from edge_sdk.delta.prediction import Prediction, ReadAhead, put_prediction
from edge_sdk.delta.pruned import looks_pruned
from edge_sdk.delta.records import Place
from edge_sdk.delta.writer import Predicted, slot_of

_SMALL_BYTES = 64 << 10
# Bytes of no known format: a sample shows which method is worth it for all of them.
_SAMPLE_BYTES = 64 << 10
_SAMPLED_BYTES_MIN = 4 << 10
_GUESSED = ("float32", "float16", "bfloat16", "int8", "int16", "float64")
_GUESSES_FITTED = 2
# What compressing must come within, on a sample, in order to be tried on the whole.
_LITERAL_LOSES = 1.05
# Kind, length, place, check: what a record costs beside its payload, about.
_RECORD_OVERHEAD_BYTES = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A record that could be written. ``table`` is the prediction that it needs in force,
    ``code`` the code table and its slot; ``code_bytes`` what that costs where it is new."""

    method: Method
    place: Place
    tail: bytes
    table: Predicted | None = None
    code: tuple[int, CodeTable] | None = None
    code_bytes: int = 0

    @property
    def cost_bytes(self) -> int:
        return len(self.tail) + self.code_bytes + _RECORD_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The bytes that predict a place, and how a record refers to them."""

    predicted: Predicted
    position: int
    data: Bytes
    leans: Leans | None = None


class Chooser:
    """Makes candidates with the methods that may be used (numbers), and as many code tables
    at once as ``code_slots``."""

    def __init__(
        self,
        methods: Collection[int],
        sources: Sequence[OpenFile],
        code_slots: int = CODE_SLOTS,
    ) -> None:
        self._methods = methods
        self._sources = sources
        self._packer = Packer()
        self._ahead = ReadAhead()
        self._residual = Residual()
        self._planes = Planes()
        self._policy = Policy(code_slots)

    def choose(
        self, place: Place, data: bytes, aligned: AlignedRange | None, near: tuple[int, int] | None
    ) -> Candidate | None:
        """A record for bytes that changed; None where they are no numbers, or better no record
        of their own. ``near``: what they are perhaps like, where nothing is known of them."""
        if aligned is None:
            aligned = self._guessed(place, data, near)
        return None if aligned is None else self._numbers(place, data, aligned)

    def is_pruned(
        self, place: Place, data: bytes, aligned: AlignedRange, near: tuple[int, int]
    ) -> bool:
        """Whether numbers are those at ``near``, a file and an offset in it, but for zeros."""
        if aligned.kind is None:
            return False
        phase = _phase(place, len(data), aligned, aligned.kind)
        return looks_pruned(self._read_source(*near, len(data)), data, aligned.kind, phase)

    def _numbers(self, place: Place, data: bytes, aligned: AlignedRange) -> Candidate | None:
        """Residual or planes; None where a literal is smaller."""
        coded = self._as_numbers(place, data, aligned)
        if coded is None:
            return None
        if 2 * coded.cost_bytes < len(data) or self._literal_loses(data, coded.cost_bytes):
            return coded
        return coded if coded.cost_bytes < self._literal_bytes(data) else None

    def _literal_loses(self, data: bytes, cost_bytes: int) -> bool:
        """Whether a sample says that compressing all would not come near."""
        if len(data) < 2 * _SAMPLE_BYTES:
            return False
        start = (len(data) - _SAMPLE_BYTES) // 2
        sample = data[start : start + _SAMPLE_BYTES]
        packed = len(self._packer.pack(sample, Effort.QUICK))
        return packed * len(data) > _LITERAL_LOSES * cost_bytes * len(sample)

    def _literal_bytes(self, data: bytes) -> int:
        """What these bytes cost among others, about."""
        effort = Effort.DENSE if len(data) <= _SMALL_BYTES else Effort.QUICK
        return len(self._packer.pack(data, effort))

    def _guessed(
        self, place: Place, data: bytes, near: tuple[int, int] | None
    ) -> AlignedRange | None:
        """The bytes as numbers predicted by what they are near to, if a sample from the middle
        says so."""
        if near is None or len(data) < _SAMPLED_BYTES_MIN:
            return None
        file, at = near
        start = max(0, (len(data) - _SAMPLE_BYTES) // 2) & ~7
        sample = data[start : start + _SAMPLE_BYTES]
        part = Place(file=place.file, offset=place.offset + start, length=len(sample))
        other = self._sample_bytes(sample, (file, at + start))
        here = _guessed_ranges(place, near, sample)
        there = _guessed_ranges(part, (file, at + start), sample)
        likely = [
            (bits, guess, ranged)
            for guess, ranged in zip(here, there, strict=True)
            if (bits := self._guessed_bits(part, sample, ranged)) < 8 * other
        ]
        likely.sort(key=lambda one: one[0])
        tried = [
            (choice.cost_bytes, guess)
            for _, guess, ranged in likely[:_GUESSES_FITTED]
            if (choice := self._guess(part, sample, ranged)) is not None
            # More records share a table.
            and choice.cost_bytes - choice.table_bytes < other
        ]
        _, best = min(tried, key=lambda one: one[0], default=(other, None))
        return best

    def _guessed_bits(self, place: Place, data: bytes, aligned: AlignedRange) -> float:
        """What the numbers cost, about; more than can be where nothing predicts them."""
        source = self._predicted(place, len(data), aligned)
        if aligned.kind is None or (source is None and aligned.is_predicted):
            return math.inf
        before, after = _elements(place, data, aligned, aligned.kind, source)
        return guessed_bits(aligned.kind, before, after)

    def _guess(self, place: Place, data: bytes, aligned: AlignedRange) -> Choice | None:
        source = self._predicted(place, len(data), aligned)
        if source is None and aligned.is_predicted:
            return None
        return self._coded(Policy(), place, data, aligned, source)

    def _sample_bytes(self, sample: bytes, near: tuple[int, int]) -> int:
        """What a sample costs where it is no numbers: alone, with what it is near to before it,
        or as differences to that."""
        file, at = near
        packed = len(self._packer.pack(sample, Effort.QUICK))
        start = max(0, at - len(sample))
        window = self._sources[file].read(start, 3 * len(sample))
        if not window:
            return packed
        packed = min(packed, len(self._packer.pack_parts([sample], Effort.QUICK, window)))
        before = np.frombuffer(self._sources[file].read(at, len(sample)), np.uint8)
        steps = np.frombuffer(sample, np.uint8, len(before)) - before
        differences = self._packer.pack(steps.tobytes() + sample[len(before) :], Effort.QUICK)
        return min(packed, len(differences))

    def _as_numbers(self, place: Place, data: bytes, aligned: AlignedRange) -> Candidate | None:
        source = self._predicted(place, len(data), aligned)
        for sure in (False, True):
            choice = self._coded(self._policy, place, data, aligned, source, sure=sure)
            if choice is None:
                return None
            coded = self._encoded(choice, place, data, aligned, source)
            if coded is not None:
                return coded
        raise AssertionError("a code table that is sure has all symbols")

    def _encoded(
        self,
        choice: Choice,
        place: Place,
        data: bytes,
        aligned: AlignedRange,
        source: _Source | None,
    ) -> Candidate | None:
        """None where the code table lacks a symbol."""
        phase = _phase(place, len(data), aligned, choice.table.kind)
        shared = {"phase": phase, "code_slot": choice.slot, "lanes_log2": choice.lanes_log2}
        method: Method = self._residual
        if source is None or choice.table.model == ALONE:
            method = self._planes
            tail = self._planes.encode(data, table=choice.table, levels=choice.levels, **shared)
        else:
            tail = self._residual.encode(
                source.data,
                data,
                slot=slot_of(source.predicted),
                position=source.position,
                table=choice.table,
                levels=choice.levels,
                leans=source.leans,
                **shared,
            )
        if tail is None:
            return None
        return Candidate(
            method=method,
            place=place,
            tail=tail,
            table=source.predicted if source and method is self._residual else None,
            code=(choice.slot, choice.table),
            code_bytes=choice.table_bytes,
        )

    def _coded(
        self,
        policy: Policy,
        place: Place,
        data: bytes,
        aligned: AlignedRange,
        source: _Source | None,
        *,
        sure: bool = True,
    ) -> Choice | None:
        """How numbers are coded best, predicted or alone."""
        kind = aligned.kind
        alone = self._planes.number in self._methods
        if kind is None or (source is None and not alone):
            return None
        before, after = _elements(place, data, aligned, kind, source)
        return policy.choose(
            kind,
            before,
            after,
            leans=None if source is None else source.leans,
            alone=alone,
            following=(aligned.end - place.end) / len(data),
            tensor=(place.file, aligned.start),
            sure=sure,
        )

    def _predicted(self, place: Place, length: int, aligned: AlignedRange) -> _Source | None:
        if self._residual.number not in self._methods:
            return None
        if not aligned.is_predicted and aligned.prediction is None:
            return None
        predicted: Predicted = aligned.source_file
        position = aligned.source_start + place.offset - aligned.start
        if aligned.prediction is not None:
            predicted = aligned.prediction
            position = aligned.position + place.offset - aligned.start
            if _described_bytes(predicted) > aligned.end - aligned.start:
                return None
            if not predicted.is_affordable(position, length):
                return None
            width = predicted.number_bytes
            if width and aligned.kind is not None and aligned.kind.width_bytes == width:
                phase = _phase(place, length, aligned, aligned.kind)
                return self._leaning(predicted, position, length, phase)
            data = self._ahead.read(aligned.prediction, position, length, self._read_source)
        elif position + length > self._sources[aligned.source_file].size_bytes:
            return None
        else:
            data = self._read_source(aligned.source_file, position, length)
        return _Source(predicted=predicted, position=position, data=data)

    def _leaning(self, prediction: Prediction, position: int, length: int, phase: int) -> _Source:
        """``phase``: bytes before the first whole number."""
        width = prediction.number_bytes
        end = phase + (length - phase) // width * width
        numbers, leans = prediction.read_leaning(position + phase, end - phase, self._read_source)
        before, behind = (
            bytes(prediction.read(position + start, stop - start, self._read_source))
            for start, stop in ((0, phase), (end, length))
        )
        return _Source(
            predicted=prediction,
            position=position,
            data=before + numbers + behind,
            leans=np.frombuffer(leans, np.uint8),
        )

    def _read_source(self, file: int, offset: int, length: int) -> bytes:
        return self._sources[file].read(offset, length)


@lru_cache(maxsize=1)  # a tensor's records stand one after the other
def _described_bytes(prediction: Prediction) -> int:
    """What a prediction takes in its table record."""
    return len(put_prediction(prediction))


def _phase(place: Place, length: int, aligned: AlignedRange, kind: ElementKind) -> int:
    """Bytes of the place before its first whole element."""
    return min((aligned.start - place.offset) % kind.width_bytes, length)


def _elements(
    place: Place, data: bytes, aligned: AlignedRange, kind: ElementKind, source: _Source | None
) -> tuple[Bits | None, Bits]:
    """Predicted and target elements; integers that nothing predicts are coded by their size."""
    phase = _phase(place, len(data), aligned, kind)
    parts = Split(length=len(data), phase=phase, kind=kind)
    before = None if source is None else parts.elements(source.data)
    if source is None and not kind.is_float:
        before = np.zeros(parts.count, kind.bits)
    return before, parts.elements(data)


def _guessed_ranges(place: Place, near: tuple[int, int], sample: bytes) -> Iterator[AlignedRange]:
    """Numbers of each likely kind, predicted from ``near`` on; integers also without."""
    file, at = near
    for kind in KINDS:
        if kind.name not in _GUESSED:
            continue
        phase = likely_phase(sample, kind)
        predicted = AlignedRange(
            start=place.offset + phase,
            end=place.end,
            source_file=file,
            source_start=at + phase,
            kind=kind,
        )
        yield predicted
        if not kind.is_float:
            yield replace(predicted, is_predicted=False)
