"""Files as one sequence of bytes. Source: FORMAT.md, "Addresses"."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

from edge_sdk.base import chunk_count


class Addresses:
    """Files of these sizes, one behind the other: an address counts from the first byte of the
    first."""

    def __init__(self, sizes: Iterable[int]) -> None:
        known = tuple(sizes)
        self._starts = tuple(accumulate(known, initial=0))
        self._first_chunks = tuple(accumulate(map(chunk_count, known), initial=0))

    @property
    def end(self) -> int:
        """The address behind the last byte."""
        return self._starts[-1]

    def of(self, file: int, offset: int) -> int:
        return self._starts[file] + offset

    def place(self, address: int) -> tuple[int, int]:
        """File and offset of the byte at ``address``; behind the last byte, the number of files."""
        file = bisect_right(self._starts, address) - 1
        return file, address - self._starts[file]

    def chunks_before(self, address: int) -> int:
        """How many chunks of the files begin before an address."""
        file, offset = self.place(address)
        return self._first_chunks[file] + chunk_count(offset)

    def parts(self, address: int, length: int) -> Iterator[tuple[int, int, int]]:
        """File, offset and length of each piece of a range, which ends at ``end`` at most."""
        while length:
            file, offset = self.place(address)
            part = min(length, self._starts[file + 1] - address)
            yield file, offset, part
            address, length = address + part, length - part
