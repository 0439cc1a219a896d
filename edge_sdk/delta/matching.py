"""Finds target bytes that stand somewhere in the source, by their content.

Blocks of the source are indexed by four words of each; the target is looked up at every
byte offset. What is found is compared before it is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from edge_sdk.base import CHUNK_BYTES

Bytes8 = NDArray[np.uint8]
Words = NDArray[np.uint64]

_BLOCK_BYTES_MAX = 64 << 10
_BLOCKS_WANTED = 1 << 19  # 16 bytes each: 8 MiB of index whatever the source's size
_SCAN_BYTES = 128 << 10  # looked up at once: 8 bytes of working memory for each, a few times
_FILTER_BITS = 22
_FAILURES_MAX = 256  # per region; content that deceives the words is not worth more
_MULTIPLIERS = tuple(
    np.uint64(number)
    for number in (
        0x9E3779B97F4A7C15,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0xD6E8FEB86659FD93,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Bytes ``start`` to ``end`` of a region stand at ``source_start`` of a source file."""

    start: int
    end: int
    source_file: int
    source_start: int


class Readable(Protocol):
    """A file, or what is read like one: fewer bytes only where it ends."""

    @property
    def size_bytes(self) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...


class SourceIndex:
    """Blocks of all source files by content. Memory is bounded whatever their size."""

    BLOCK_BYTES_MIN = 256

    def __init__(
        self, sources: Sequence[Readable], *, block_bytes_min: int = BLOCK_BYTES_MIN
    ) -> None:
        self._sources = sources
        total = sum(file.size_bytes for file in sources)
        wanted = max(block_bytes_min, min(_BLOCK_BYTES_MAX, total // _BLOCKS_WANTED))
        self.block_bytes = 1 << (wanted - 1).bit_length()
        self._starts = np.cumsum([0, *(file.size_bytes for file in sources)]).astype(np.uint64)
        self._prints, self._positions = self._collect()
        self._filter = np.zeros(1 << _FILTER_BITS, np.bool_)
        self._filter[_filter_key(self._prints)] = True

    def _collect(self) -> tuple[Words, Words]:
        prints: list[Words] = [np.empty(0, np.uint64)]
        positions: list[Words] = [np.empty(0, np.uint64)]
        for number, file in enumerate(self._sources):
            for at in range(0, file.size_bytes, CHUNK_BYTES):
                data = np.frombuffer(file.read(at, CHUNK_BYTES), np.uint8)
                found, useful = _fingerprints(data, self.block_bytes, self.block_bytes)
                blocks = np.flatnonzero(useful).astype(np.uint64)
                prints.append(found[useful])
                positions.append(
                    self._starts[number] + np.uint64(at) + blocks * np.uint64(self.block_bytes)
                )
        # The first of equal blocks stays, so that the result does not depend on the sort.
        unique, first = np.unique(np.concatenate(prints), return_index=True)
        return unique, np.concatenate(positions)[first]

    def matches(self, region: bytes, *, before: int | None = None) -> Iterator[Match]:
        """Matches of at least a block, in order, not overlapping. With ``before``: only of what
        ends before that many bytes of the source, counted through its files."""
        data = np.frombuffer(region, np.uint8)
        done = 0
        failures = 0
        if not len(self._prints):
            return
        for start, position in self._candidates(data):
            if start < done or (before is not None and position + self.block_bytes > before):
                continue
            if failures >= _FAILURES_MAX:
                return
            match = self._extend(data, start, position, done, before)
            if match is None:
                failures += 1
            else:
                done = match.end
                yield match

    def _candidates(self, data: Bytes8) -> Iterator[tuple[int, int]]:
        """Offsets whose block's fingerprint is known, with the source position."""
        for at in range(0, max(0, len(data) - self.block_bytes + 1), _SCAN_BYTES):
            window = data[at : at + _SCAN_BYTES + self.block_bytes - 1]
            prints, useful = _fingerprints(window, self.block_bytes, 1)
            maybe = np.flatnonzero(self._filter[_filter_key(prints)] & useful)
            places = np.searchsorted(self._prints, prints[maybe])
            places[places == len(self._prints)] = 0
            sure = self._prints[places] == prints[maybe]
            for offset, place in zip(maybe[sure].tolist(), places[sure].tolist(), strict=True):
                yield at + offset, int(self._positions[place])

    def _extend(
        self, data: Bytes8, start: int, position: int, done: int, before: int | None
    ) -> Match | None:
        """The match around a candidate: back to ``done`` at most, on to the region's end."""
        number = int(np.searchsorted(self._starts, np.uint64(position), side="right")) - 1
        offset = position - int(self._starts[number])
        file = self._sources[number]
        wanted = len(data) - start
        if before is not None:
            wanted = min(wanted, before - position)
        ahead = _common_prefix(data[start:], file.read(offset, wanted))
        if ahead < self.block_bytes:
            return None
        reach = min(start - done, offset)
        behind = _common_suffix(data[start - reach : start], file.read(offset - reach, reach))
        return Match(
            start=start - behind,
            end=start + ahead,
            source_file=number,
            source_start=offset - behind,
        )


def equal_runs(target: bytes, source: bytes, length_min: int) -> Iterator[tuple[int, int]]:
    """Ranges of at least ``length_min`` in which two byte strings agree at equal offsets."""
    length = min(len(target), len(source))
    after, before = (np.frombuffer(data, np.uint8, length) for data in (target, source))
    borders = np.concatenate(([-1], np.flatnonzero(after != before), [length]))
    for gap in np.flatnonzero(np.diff(borders) > length_min).tolist():
        yield int(borders[gap]) + 1, int(borders[gap + 1])


def _common_prefix(data: Bytes8, other: bytes) -> int:
    length = min(len(data), len(other))
    differs = data[:length] != np.frombuffer(other, np.uint8, length)
    return int(differs.argmax()) if differs.any() else length


def _common_suffix(data: Bytes8, other: bytes) -> int:
    if len(data) != len(other):
        return 0  # the source became shorter while it was read
    return _common_prefix(data[::-1], other[::-1])


def _fingerprints(data: Bytes8, block_bytes: int, step: int) -> tuple[Words, NDArray[np.bool_]]:
    """A number for each block that begins at a multiple of ``step``, and whether it is useful.

    A block whose words are all alike (zeros) says nothing about where it stands.
    """
    count = max(0, (len(data) - block_bytes) // step + 1)
    prints = np.zeros(count, np.uint64)
    alike = np.ones(count, np.bool_)
    if not count:
        return prints, alike
    first = _words(data, 0, count, step)
    for number, multiplier in enumerate(_MULTIPLIERS):
        words = _words(data, number * (block_bytes - 8) // 3, count, step)
        alike &= words == first
        prints += words * multiplier
    prints ^= prints >> np.uint64(29)
    return prints, ~alike


def _words(data: Bytes8, offset: int, count: int, step: int) -> Words:
    """64-bit words at ``offset``, ``offset + step``, ...; aligned or not."""
    words: Any = as_strided(
        data[offset : offset + 8].view(np.uint64), shape=(count,), strides=(step,), writeable=False
    )
    return np.ascontiguousarray(words)


def _filter_key(prints: Words) -> NDArray[np.int64]:
    return (prints >> np.uint64(64 - _FILTER_BITS)).astype(np.int64)
