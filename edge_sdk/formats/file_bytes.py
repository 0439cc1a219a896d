"""The bytes of a file, read where they are asked for.

Never mapped: a mapped file that becomes shorter meanwhile kills the process.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Protocol, overload

from edge_sdk.base import UnavailableError

# What readers look at lies close together or far apart: a page costs as much as a few bytes.
_PAGE_BITS = 12
_PAGE_BYTES = 1 << _PAGE_BITS
_PAGES_KEPT = 1024
_FIRST_SEARCH_BYTES = 256
_SEARCH_BYTES = 1 << 20


class Bytes(Protocol):
    """What readers need of ``bytes``; a slice has no step."""

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def find(self, sought: bytes, start: int = ..., end: int = ..., /) -> int: ...


class FileBytes:
    """A file as it was long when it was opened, in the memory of a few pages.

    Raises: UnavailableError from every method, once the file has become shorter.
    """

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        """``stream`` has no buffer, and is the caller's to close."""
        self._path = path
        self._stream = stream
        self._pages: dict[int, bytes] = {}
        self.size_bytes = os.fstat(stream.fileno()).st_size

    @overload
    def __getitem__(self, key: int, /) -> int: ...
    @overload
    def __getitem__(self, key: slice, /) -> bytes: ...
    def __getitem__(self, key: int | slice, /) -> int | bytes:
        if isinstance(key, int):
            number = key >> _PAGE_BITS
            return (self._pages.get(number) or self._page(number))[key & _PAGE_BYTES - 1]
        start, end, _ = key.indices(self.size_bytes)
        number, at = start >> _PAGE_BITS, start & _PAGE_BYTES - 1
        if end - start > _PAGE_BYTES - at:
            return self._read(start, end - start)
        if end <= start:
            return b""
        return (self._pages.get(number) or self._page(number))[at : at + end - start]

    def find(self, sought: bytes, start: int = 0, end: int | None = None, /) -> int:
        """As that of ``bytes``; memory is bounded however far it has to look."""
        end = self.size_bytes if end is None else min(end, self.size_bytes)
        length = _FIRST_SEARCH_BYTES
        while end - start >= len(sought):
            found = self[start : min(start + length + len(sought) - 1, end)].find(sought)
            if found >= 0:
                return start + found
            start += length
            length = min(2 * length, _SEARCH_BYTES)
        return -1

    def _page(self, number: int) -> bytes:
        start = number << _PAGE_BITS
        if not 0 <= start < self.size_bytes:
            raise IndexError(start)
        if len(self._pages) >= _PAGES_KEPT:
            self._pages.clear()
        page = self._read(start, min(_PAGE_BYTES, self.size_bytes - start))
        self._pages[number] = page
        return page

    def _read(self, start: int, length: int) -> bytes:
        self._stream.seek(start)
        data = self._stream.read(length)
        while len(data) < length:  # a short read is not an end
            more = self._stream.read(length - len(data))
            if not more:
                raise UnavailableError(
                    f"{self._path} changed while it was read; run it again when it rests"
                )
            data += more
        return data
