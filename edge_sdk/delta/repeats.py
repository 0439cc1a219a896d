"""Finds what a target holds more than once: files, tensors, and bytes of no known format."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from edge_sdk.base import Digest
from edge_sdk.delta.addresses import Addresses
from edge_sdk.delta.alignment import AlignedRange
from edge_sdk.delta.files import OpenFile
from edge_sdk.delta.matching import Match, SourceIndex

# Less is left to the compressor, which sees a chunk at once.
_TENSOR_BYTES_MIN = 4 << 10
_BLOCK_BYTES_MIN = 4 << 10
_SAMPLED_BYTES = 64

Range = tuple[int, int]
"""A target file, and an offset in it."""


class Repeats:
    """Earlier places of a target. What is found was compared, or is to be."""

    def __init__(
        self,
        targets: Sequence[OpenFile],
        digests: Sequence[Digest],
        ranges: Mapping[int, Sequence[AlignedRange]],
    ) -> None:
        self._targets = targets
        self._addresses = Addresses(file.size_bytes for file in targets)
        self._files: dict[int, int] = {}
        first: dict[Digest, int] = {}
        for number, digest in enumerate(digests):
            self._files[number] = first.setdefault(digest, number)
        self._tensors = dict(self._find_tensors(ranges))
        self._index: SourceIndex | None = None

    def file(self, number: int) -> int | None:
        """An earlier file of the same content."""
        found = self._files[number]
        return found if found < number else None

    def tensor(self, number: int, start: int) -> Range | None:
        """Where an earlier tensor begins that is likely the same as the one that begins here."""
        return self._tensors.get((number, start))

    def matches(self, number: int, offset: int, data: bytes) -> Iterator[Match]:
        """What of the bytes at an offset of a file stands before them."""
        if len(data) < _BLOCK_BYTES_MIN:
            return
        if self._index is None:
            self._index = SourceIndex(self._targets, block_bytes_min=_BLOCK_BYTES_MIN)
        yield from self._index.matches(data, before=self._addresses.of(number, offset))

    def read(self, number: int, offset: int, length: int) -> bytes:
        return self._targets[number].read(offset, length)

    def _find_tensors(
        self, ranges: Mapping[int, Sequence[AlignedRange]]
    ) -> Iterator[tuple[Range, Range]]:
        by_length: dict[int, list[Range]] = defaultdict(list)
        for number in sorted(ranges):
            for one in ranges[number]:
                if one.end - one.start >= _TENSOR_BYTES_MIN:
                    by_length[one.end - one.start].append((number, one.start))
        for length, found in by_length.items():
            first: dict[bytes, Range] = {}
            for place in found if len(found) > 1 else ():
                earlier = first.setdefault(self._sample(*place, length), place)
                if earlier != place:
                    yield place, earlier

    def _sample(self, number: int, start: int, length: int) -> bytes:
        places = (0, length // 3, length // 2, length - _SAMPLED_BYTES)
        return b"".join(self.read(number, start + at, _SAMPLED_BYTES) for at in places)
