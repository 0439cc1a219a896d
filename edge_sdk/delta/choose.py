"""The method for a range of target bytes: what is smallest, tried in order of promise."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.frames import DICTIONARY_BYTES_MAX, Effort, Packer
from edge_sdk.delta.methods import Dictionary, Literal, Method, Residual
from edge_sdk.delta.numeric import KINDS, ElementKind
from edge_sdk.delta.prediction import SourceRange
from edge_sdk.delta.records import Place
from edge_sdk.delta.writer import slot_of

_DICTIONARY_LEVEL = 12
_SMALL_DICTIONARY_LEVEL = 19
_SMALL_DICTIONARY_BYTES = 256 << 10
_SMALL_BYTES = 64 << 10
# Making a dictionary of a window costs time by its size, so few bytes get a small one.
_WINDOW_BYTES_MIN = 16 << 10
_WINDOW_SHARE = 8
# Text, graphs, sparse weights compress to less than this; dense weights do not, and a
# second, slow look at them gains 0.3 % (measured on fp32, fp16, bf16 and int8).
_COMPRESSIBLE_SHARE = 0.7
# Bytes of no known format: a sample shows which method is worth it for all of them.
_SAMPLE_BYTES = 64 << 10
_SAMPLED_BYTES_MIN = 4 << 10
_GUESSED = ("float32", "float16", "bfloat16", "int8")
# What a method must save on the sample in order to be tried on the whole.
_PROMISING_SHARE = 0.95
# Kind, length, place, check: what a record costs beside its payload, about.
RECORD_OVERHEAD_BYTES = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A record that could be written. ``table`` is the source file whose table it needs."""

    method: Method
    place: Place
    tail: bytes
    table: int | None = None

    @property
    def cost_bytes(self) -> int:
        return len(self.tail) + RECORD_OVERHEAD_BYTES


class Chooser:
    """Makes candidates with the methods that may be used (numbers)."""

    def __init__(self, methods: Collection[int], sources: Sequence[OpenFile]) -> None:
        self._methods = methods
        self._sources = sources
        self._packer = Packer()
        self._literal = Literal()
        self._dictionary = Dictionary()
        self._residual = Residual()

    def numbers(self, place: Place, data: bytes, aligned: AlignedRange) -> Candidate:
        """For aligned numbers that changed: residual or literal."""
        residual = self._as_residual(place, data, aligned)
        if residual is not None and 2 * residual.cost_bytes < len(data):
            return residual
        return _smallest(residual, self._as_literal(place, data))

    def bytes_(self, place: Place, data: bytes, near: tuple[int, int] | None) -> Candidate:
        """For bytes that are no numbers, which are likely to stand near a source position."""
        return _smallest(self._as_literal(place, data), self._as_dictionary(place, data, near))

    def unknown(self, place: Place, data: bytes, near: tuple[int, int] | None) -> Candidate:
        """For bytes of which nothing is known: they may be numbers all the same."""
        if near is None or len(data) < _SAMPLED_BYTES_MIN:
            return self.bytes_(place, data, near)
        kind, dictionary_pays = self._sample(place, data, near)
        if kind is not None:
            return self.numbers(place, data, _guessed_range(place, near, kind))
        return self.bytes_(place, data, near if dictionary_pays else None)

    def _sample(
        self, place: Place, data: bytes, near: tuple[int, int]
    ) -> tuple[ElementKind | None, bool]:
        """The kind of element that a sample from the middle is made of, if any, and whether a
        dictionary helps there."""
        file, at = near
        start = max(0, (len(data) - _SAMPLE_BYTES) // 2) & ~7
        part = Place(file=place.file, offset=place.offset + start, length=_SAMPLE_BYTES)
        sample = data[start : start + _SAMPLE_BYTES]
        literal = len(self._packer.pack(sample, Effort.QUICK))
        dictionary = self._as_dictionary(part, sample, (file, at + start))
        other = min(literal, dictionary.cost_bytes if dictionary else literal)
        tried = [
            (residual.cost_bytes, kind)
            for kind in KINDS
            if kind.name in _GUESSED
            and (ranged := _guessed_range(part, (file, at + start), kind))
            and (residual := self._as_residual(part, sample, ranged))
        ]
        cost, kind = min(tried, key=lambda one: one[0], default=(other, None))
        is_number = cost < _PROMISING_SHARE * other
        return kind if is_number else None, other < _PROMISING_SHARE * literal

    def _as_residual(self, place: Place, data: bytes, aligned: AlignedRange) -> Candidate | None:
        kind = aligned.kind
        position = aligned.source_start + place.offset - aligned.start
        if kind is None or self._residual.number not in self._methods:
            return None
        source = self._sources[aligned.source_file].read(position, len(data))
        if len(source) != len(data):
            return None
        tail = self._residual.encode(
            source,
            data,
            kind=kind,
            phase=min((aligned.start - place.offset) % kind.width_bytes, len(data)),
            slot=slot_of(aligned.source_file),
            position=position,
            packer=self._packer,
        )
        return Candidate(method=self._residual, place=place, tail=tail, table=aligned.source_file)

    def _as_dictionary(
        self, place: Place, data: bytes, near: tuple[int, int] | None
    ) -> Candidate | None:
        if near is None or self._dictionary.number not in self._methods:
            return None
        file, start = near
        window = _window_around(file, self._sources[file].size_bytes, start, len(data))
        if window is None:
            return None
        content = self._sources[file].read(window.offset, window.length)
        small = len(data) + len(content) <= _SMALL_DICTIONARY_BYTES
        level = _SMALL_DICTIONARY_LEVEL if small else _DICTIONARY_LEVEL
        tail = self._dictionary.encode(data, window, content, self._packer, level)
        return Candidate(method=self._dictionary, place=place, tail=tail)

    def _as_literal(self, place: Place, data: bytes) -> Candidate:
        tail = self._literal.encode(data, self._packer, Effort.QUICK)
        if len(data) <= _SMALL_BYTES or len(tail) < _COMPRESSIBLE_SHARE * len(data):
            again = self._literal.encode(data, self._packer, Effort.DENSE)
            tail = min(tail, again, key=len)
        return Candidate(method=self._literal, place=place, tail=tail)


def _smallest(*candidates: Candidate | None) -> Candidate:
    """The first of the smallest."""
    found = [candidate for candidate in candidates if candidate is not None]
    return min(found, key=lambda one: one.cost_bytes)


def _guessed_range(place: Place, near: tuple[int, int], kind: ElementKind) -> AlignedRange:
    """Elements at multiples of eight bytes of the target file, predicted from ``near`` on."""
    file, at = near
    before = place.offset % 8
    return AlignedRange(
        start=place.offset - before,
        end=place.end,
        source_file=file,
        source_start=at - before,
        kind=kind,
    )


def _window_around(file: int, size_bytes: int, start: int, length: int) -> SourceRange | None:
    """A window of a source that has ``start`` to ``start + length`` in its middle."""
    wanted = min(DICTIONARY_BYTES_MAX, max(_WINDOW_BYTES_MIN, _WINDOW_SHARE * length))
    offset = max(0, min(start - (wanted - length) // 2, size_bytes - wanted))
    window_bytes = min(wanted, size_bytes - offset)
    if window_bytes == 0:
        return None
    return SourceRange(file=file, offset=offset, length=window_bytes)
