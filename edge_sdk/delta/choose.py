"""The method for a range of target bytes: what is smallest, tried in order of promise."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.frames import DICTIONARY_BYTES_MAX, Effort, Packer
from edge_sdk.delta.methods import Dictionary, Literal, Method, Residual
from edge_sdk.delta.prediction import SourceRange
from edge_sdk.delta.records import Place
from edge_sdk.delta.writer import slot_of

ReadSource = Callable[[int, int, int], bytes]

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

    def __init__(self, methods: Collection[int], read_source: ReadSource) -> None:
        self._methods = methods
        self._read_source = read_source
        self._packer = Packer()
        self._literal = Literal()
        self._dictionary = Dictionary()
        self._residual = Residual()

    def bytes_(self, place: Place, data: bytes, window: SourceRange | None) -> Candidate:
        """For bytes that are no aligned numbers: dictionary or literal."""
        literal = self._as_literal(place, data)
        if window is None or self._dictionary.number not in self._methods:
            return literal
        content = self._read_source(window.file, window.offset, window.length)
        small = len(data) + len(content) <= _SMALL_DICTIONARY_BYTES
        level = _SMALL_DICTIONARY_LEVEL if small else _DICTIONARY_LEVEL
        tail = self._dictionary.encode(data, window, content, self._packer, level)
        dictionary = Candidate(method=self._dictionary, place=place, tail=tail)
        return min(dictionary, literal, key=lambda one: one.cost_bytes)

    def numbers(self, place: Place, data: bytes, source: bytes, aligned: AlignedRange) -> Candidate:
        """For aligned numbers that changed: residual or literal."""
        kind = aligned.kind
        if kind is None or self._residual.number not in self._methods:
            return self._as_literal(place, data)
        tail = self._residual.encode(
            source,
            data,
            kind=kind,
            phase=min((aligned.start - place.offset) % kind.width_bytes, len(data)),
            slot=slot_of(aligned.source_file),
            position=aligned.source_start + place.offset - aligned.start,
            packer=self._packer,
        )
        residual = Candidate(
            method=self._residual, place=place, tail=tail, table=aligned.source_file
        )
        if 2 * residual.cost_bytes < len(data):
            return residual
        return min(residual, self._as_literal(place, data), key=lambda one: one.cost_bytes)

    def _as_literal(self, place: Place, data: bytes) -> Candidate:
        tail = self._literal.encode(data, self._packer, Effort.QUICK)
        if len(data) <= _SMALL_BYTES or len(tail) < _COMPRESSIBLE_SHARE * len(data):
            again = self._literal.encode(data, self._packer, Effort.DENSE)
            tail = min(tail, again, key=len)
        return Candidate(method=self._literal, place=place, tail=tail)


def window_around(file: int, size_bytes: int, start: int, length: int) -> SourceRange | None:
    """A window of a source that has ``start`` to ``start + length`` in its middle."""
    wanted = min(DICTIONARY_BYTES_MAX, max(_WINDOW_BYTES_MIN, _WINDOW_SHARE * length))
    offset = max(0, min(start - (wanted - length) // 2, size_bytes - wanted))
    window_bytes = min(wanted, size_bytes - offset)
    if window_bytes == 0:
        return None
    return SourceRange(file=file, offset=offset, length=window_bytes)
