"""Fetches metadata files for python-tuf's client, with the limits that the client has not.

The client knows no deadline and takes a file at the pace of whoever serves it, believes a
length that an online key wrote, and keeps what arrives in a temporary file. Here each file has
a deadline, a pace and a largest size, and stays in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient.fetcher import FetcherInterface

from edge_sdk.base import NotFoundError

_NOT_FOUND = 404  # what the client takes as the end of the chain of roots


class MetadataSource(Protocol):
    """Whoever serves metadata files, by their names on the wire (``2.root.json``)."""

    def fetch(self, name: str) -> Iterator[bytes]:
        """Raises: NotFoundError; any other error where the file cannot be had now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long one file may take. The rate counts from ``grace_s`` on: a link may be slow to
    begin, and a small file comes in one piece. A transfer that breaks off after ``stall_s`` was
    held up; earlier, the link is down."""

    deadline_s: float = 600.0  # the largest file over 2 KB/s
    bytes_per_s_min: int = 512
    grace_s: float = 10.0
    stall_s: float = 30.0


def keep_pace(
    chunks: Iterator[bytes],
    name: str,
    pace: Pace,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[bytes]:
    """Yields ``chunks``. Raises: SlowRetrievalError where they come too slowly.

    An empty chunk is judged like any other: it must not keep a transfer alive.
    """
    began_s = clock()
    received = 0
    for chunk in chunks:
        took_s = clock() - began_s
        received += len(chunk)
        if took_s > pace.deadline_s:
            raise SlowRetrievalError(f"{name} took longer than {pace.deadline_s:.0f} s")
        if received < (took_s - pace.grace_s) * pace.bytes_per_s_min:
            raise SlowRetrievalError(f"{name} comes too slowly: {received} bytes in {took_s:.0f} s")
        yield chunk


class GuardedFetcher(FetcherInterface):
    """``open_url`` begins a transfer; its errors, also those in its midst, become DownloadError
    with the first one as their cause. ``size_max`` gives the largest size by a file's name."""

    def __init__(
        self,
        open_url: Callable[[str], Iterator[bytes]],
        *,
        size_max: Callable[[str], int],
        pace: Pace | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_url = open_url
        self._size_max = size_max
        self._pace = pace or Pace()
        self._clock = clock

    def _fetch(self, url: str) -> Iterator[bytes]:
        """A generator, so that what fails while it is read is wrapped as well."""
        name = url.rpartition("/")[2]
        began_s = self._clock()
        try:
            chunks = self._open_url(url)
            try:
                yield from keep_pace(chunks, name, self._pace, self._clock)
            finally:
                _end(chunks)
        except DownloadError:
            raise
        except NotFoundError as error:
            raise DownloadHTTPError(error.message, _NOT_FOUND) from error
        except Exception as error:
            if self._clock() - began_s > self._pace.stall_s:
                raise SlowRetrievalError(f"{name} does not come: {error}") from error
            raise DownloadError(f"{name}: {error}") from error

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """As the client's own, but in memory, and never more than the role's largest size."""
        name = unquote(url.rpartition("/")[2])
        limit = min(max_length, self._size_max(name))
        data = bytearray()
        chunks = self.fetch(url)
        try:
            for chunk in chunks:
                data += chunk
                if len(data) > limit:
                    raise DownloadLengthMismatchError(f"{name} has more than {limit} bytes")
        finally:
            _end(chunks)
        return bytes(data)


def _end(chunks: Iterator[bytes]) -> None:
    """At once, not when the error is forgotten: an endless stream goes on in the background."""
    close = getattr(chunks, "close", None)
    if close is not None:
        close()


def from_source(source: MetadataSource) -> Callable[[str], Iterator[bytes]]:
    """``open_url`` for a service that knows files by name. Role names arrive quoted."""
    return lambda url: source.fetch(unquote(url.rpartition("/")[2]))
