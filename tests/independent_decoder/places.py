"""Places in the target and their chunks, after "Records" and "Index" of FORMAT.md."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence

from tests.independent_decoder.reading import CHUNK, need


class Places:
    """The target files one behind the other: a *position* counts the bytes of all of them."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = list(sizes)
        *self.starts, self.total = itertools.accumulate(self.sizes, initial=0)
        # The number of the first chunk of each file, and that of all chunks.
        chunks = (-(-size // CHUNK) for size in self.sizes)
        *self.chunks, self.chunk_count = itertools.accumulate(chunks, initial=0)

    def position(self, file: int, offset: int) -> int:
        """Of a byte of a file."""
        need(file < len(self.sizes) and offset < self.sizes[file], "a place outside of its file")
        return self.starts[file] + offset

    def place(self, position: int) -> tuple[int, int]:
        """The file that holds a byte, and its offset there; empty files hold none."""
        file = bisect.bisect_right(self.starts, position) - 1
        return file, position - self.starts[file]

    def left_of_chunk(self, position: int) -> int:
        """How many bytes from there on lie in the same chunk of the same file."""
        file, offset = self.place(position)
        return min(CHUNK - offset % CHUNK, self.sizes[file] - offset)

    def chunks_begun(self, first: int, end: int) -> int:
        """How many chunks have their first byte in a part of the target."""
        return self._begun_before(end) - self._begun_before(first)

    def _begun_before(self, position: int) -> int:
        if position == self.total:
            return self.chunk_count
        file, offset = self.place(position)
        return self.chunks[file] + -(-offset // CHUNK)

    def chunk_start(self, chunk: int) -> int:
        """The position of a chunk's first byte."""
        need(chunk < self.chunk_count, "no such chunk")
        file = bisect.bisect_right(self.chunks, chunk) - 1
        return self.starts[file] + (chunk - self.chunks[file]) * CHUNK

    def split(self, made: bytes) -> list[bytes]:
        """The bytes of each file."""
        return [
            made[start : start + size] for start, size in zip(self.starts, self.sizes, strict=True)
        ]
