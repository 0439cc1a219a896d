"""The file layer: every write of the store goes through one of these objects.

Tests give the store a layer that records each operation, or that fails at one; so nothing
in this room calls ``os`` or ``pathlib`` to change anything.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from edge_sdk.base import Digest

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class FileSystem:
    """Files of this machine. Methods raise OSError; nothing here is durable by itself."""

    # -- reading -------------------------------------------------------------------------

    def read(self, path: Path) -> bytes:
        return path.read_bytes()

    def open_read(self, path: Path) -> BinaryIO:
        """A regular file, never through a link as its last step."""
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise FileNotFoundError(2, "not a regular file", str(path))
        return os.fdopen(handle, "rb")

    def exists(self, path: Path) -> bool:
        return os.path.lexists(path)

    def size_bytes(self, path: Path) -> int:
        return path.stat(follow_symlinks=False).st_size

    def inode(self, path: Path) -> int:
        return path.stat(follow_symlinks=False).st_ino

    def names(self, folder: Path) -> list[str]:
        """Sorted; empty where there is no such folder."""
        try:
            return sorted(path.name for path in folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def is_folder(self, path: Path) -> bool:
        return path.is_dir() and not path.is_symlink()

    def free_bytes(self, folder: Path) -> int:
        """What an unprivileged process may still write there."""
        status = os.statvfs(folder)
        return status.f_bavail * status.f_frsize

    def digests(self, folder: Path, *, suffix: str = "") -> list[Digest]:
        """The names in a folder that are a digest and ``suffix``, as digests."""
        stems = (name.removesuffix(suffix) for name in self.names(folder) if name.endswith(suffix))
        return [Digest.parse(stem) for stem in stems if _DIGEST.match(stem)]

    # -- changing ------------------------------------------------------------------------

    def make_folder(self, path: Path) -> None:
        path.mkdir(mode=0o755, exist_ok=True)

    def write(self, path: Path, data: bytes) -> None:
        """Creates or empties ``path`` and writes ``data``."""
        with path.open("wb") as stream:
            stream.write(data)

    def make_private_folder(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)

    def write_private(self, path: Path, data: bytes) -> None:
        """The same for what nobody else may ever read."""
        path.unlink(missing_ok=True)  # one from before may have been left open to others
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, how, 0o600), "wb") as stream:
            stream.write(data)

    def append(self, path: Path, data: bytes) -> None:
        with path.open("ab") as stream:
            stream.write(data)

    def open_update(self, path: Path) -> int:
        """A descriptor for positioned writes; the file is created where it is missing."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)

    def write_at(self, handle: int, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(handle, view, offset)
            offset += written
            view = view[written:]

    def read_at(self, handle: int, offset: int, length: int) -> bytes:
        """``length`` bytes, or fewer where the file ends."""
        return os.pread(handle, length, offset)

    def truncate(self, path: Path, size_bytes: int) -> None:
        os.truncate(path, size_bytes)

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target)

    def unlink(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        """An empty one."""
        path.rmdir()

    def make_read_only(self, path: Path) -> None:
        path.chmod(0o444)

    def close_to_others(self, path: Path, others: int) -> int | None:
        """Takes these rights of others away; the mode before, where it had any of them."""
        mode = stat.S_IMODE(path.stat().st_mode)
        if not mode & others:
            return None
        path.chmod(mode & ~others)
        return mode

    # -- durability: called by durable.py only -------------------------------------------

    def sync_file(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def sync_handle(self, handle: int) -> None:
        os.fsync(handle)

    def sync_folder(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self, handle: int) -> None:
        os.close(handle)
