"""The files of an artifact on this machine: found, opened and read without following links.

What differs between operating systems (``pread``, ``O_NOFOLLOW``) is here only.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edge_sdk.base import (
    CHUNK_BYTES,
    Digest,
    FormatError,
    UnavailableError,
    UsageError,
    check_path,
    check_paths,
    explain_os_error,
)
from edge_sdk.delta.container import FILES_MAX

_NAMELESS = "model"  # stands for a single file whose own name no artifact could hold


class OpenFile:
    """A regular file, open for positioned reads.

    Never mapped: a mapped file that shrinks while it is read kills the process.
    """

    def __init__(self, path: str, handle: int, *, shown: Path) -> None:
        self.path = path
        self.shown = shown  # what a person knows the file as
        self._handle = handle
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise FormatError(f"{shown} is not a regular file")
        self.size_bytes = found.st_size
        self._modified_ns = found.st_mtime_ns

    def read(self, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, or fewer where the file ended when it was opened.

        Raises: UnavailableError (it became shorter).
        """
        length = min(length, max(0, self.size_bytes - offset))
        data = _read_at(self._handle, length, offset)
        while len(data) < length:
            more = _read_at(self._handle, length - len(data), offset + len(data))
            if not more:
                raise self.changed()
            data += more
        return data

    def chunk_digests(self, threads: int = 1) -> tuple[Digest, ...]:
        """Reads all of it once; memory is one chunk for each thread.

        Raises: UnavailableError (it became shorter).
        """
        starts = range(0, self.size_bytes, CHUNK_BYTES)
        if threads == 1:
            return tuple(map(self._chunk_digest, starts))
        with ThreadPoolExecutor(threads) as pool:
            return tuple(pool.map(self._chunk_digest, starts))

    def _chunk_digest(self, start: int) -> Digest:
        wanted = min(CHUNK_BYTES, self.size_bytes - start)
        return Digest.of(self.read(start, wanted))

    def check_rests(self) -> None:
        """Raises: UnavailableError where the system knows of a change since it was opened."""
        found = os.fstat(self._handle)
        if (found.st_size, found.st_mtime_ns) != (self.size_bytes, self._modified_ns):
            raise self.changed()

    def changed(self) -> UnavailableError:
        """The error for a file that is not what it was when it was opened."""
        return UnavailableError(
            f"{self.path!r} changed while it was read; run it again when it rests"
        )


@contextmanager
def open_tree(root: Path) -> Iterator[tuple[OpenFile, ...]]:
    """A file, or all files of a folder sorted by path, open while the block runs.

    Raises: NotFoundError, FormatError (links, special files, impossible names), UsageError
    (no file at all, or too many).
    """
    with ExitStack() as stack:
        if root.is_dir():
            paths = sorted(_walk(root, ""))
            check_paths(paths)
            if not 1 <= len(paths) <= FILES_MAX:
                raise UsageError(f"{root} holds {len(paths)} files: 1 to {FILES_MAX} are possible")
            files = tuple(stack.enter_context(open_beneath(root, path)) for path in paths)
        else:
            files = (stack.enter_context(open_one(root, single_name(root))),)
        yield files


@contextmanager
def open_one(location: Path, path: str) -> Iterator[OpenFile]:
    """The file at ``location``, called ``path``; a link is followed, its user named it."""
    handle = _open(location, 0)
    try:
        yield OpenFile(path, handle, shown=location)
    finally:
        os.close(handle)


@contextmanager
def open_beneath(root: Path, path: str) -> Iterator[OpenFile]:
    """A file of the folder ``root``. No component of ``path`` may be a link."""
    check_path(path)
    handle = _open_no_links(root, path.split("/"))
    try:
        yield OpenFile(path, handle, shown=root / path)
    finally:
        os.close(handle)


def single_name(location: Path) -> str:
    """What a file that is no part of a folder is called within a delta."""
    try:
        return check_path(location.name)
    except FormatError:
        return _NAMELESS


def _walk(root: Path, prefix: str) -> Iterator[str]:
    """Relative POSIX paths of all files below. Depth is bounded by the length of a path."""
    waiting = [prefix]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                for entry in entries:
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.is_symlink():
                        raise FormatError(f"{path!r} in {root} is a link; links are not followed")
                    if entry.is_dir():
                        waiting.append(path)
                    else:
                        yield path
        except OSError as error:
            raise explain_os_error(error, root / folder) from error


def _open(
    location: Path | str, flags: int, dir_fd: int | None = None, shown: Path | None = None
) -> int:
    # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
    flags |= os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        return os.open(location, flags, dir_fd=dir_fd)
    except OSError as error:
        raise explain_os_error(error, shown or Path(location)) from error


def _open_no_links(root: Path, parts: list[str]) -> int:
    if not hasattr(os, "O_NOFOLLOW") or os.open not in os.supports_dir_fd:
        return _open_checked(root, parts)
    folder = _open(root, os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = _open_part(root, part, os.O_DIRECTORY, folder)
            os.close(folder)
            folder = inner
        return _open_part(root, parts[-1], 0, folder)
    finally:
        os.close(folder)


def _open_part(root: Path, part: str, flags: int, folder: int) -> int:
    try:
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            raise FormatError(f"{part!r} in {root} is a link; links are not followed")
    except OSError as error:
        raise explain_os_error(error, root / part) from error
    return _open(part, flags | os.O_NOFOLLOW, folder, root / part)


def _open_checked(root: Path, parts: list[str]) -> int:
    """Where the system has no ``O_NOFOLLOW``: looked at first."""
    location = root
    for part in parts:
        location = location / part
        if location.is_symlink():
            raise FormatError(f"{part!r} in {root} is a link; links are not followed")
    return _open(location, 0)


def _read_at(handle: int, length: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(handle, length, offset)
    os.lseek(handle, offset, os.SEEK_SET)
    return os.read(handle, length)
