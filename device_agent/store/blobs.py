"""Blobs: proved files, read-only and immutable, named by their digest; files that several
artifacts share exist once. A rotten one is put aside and is never a source again."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from device_agent.store import durable
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import CHUNK_BYTES, Digest, NotFoundError, ProofError, read_chunks
from edge_sdk.base.digest import file_digest

_ROTTEN_SUFFIX = ".rotten"
# What is wrong with the file itself: not there, no file, or refused by its medium or file
# system. Whatever else fails (descriptors, memory, a right) says nothing about it.
_DAMAGE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.EBADMSG, errno.EUCLEAN}
)


class Blobs:
    """The folder ``blobs/``."""

    def __init__(self, files: FileSystem, folder: Path) -> None:
        self._files = files
        self._folder = folder

    def path(self, digest: Digest) -> Path:
        return self._folder / str(digest)

    def has(self, digest: Digest) -> bool:
        return self._files.exists(self.path(digest))

    def open(self, digest: Digest) -> BinaryIO:
        """Raises: NotFoundError."""
        try:
            return self._files.open_read(self.path(digest))
        except FileNotFoundError:
            raise NotFoundError(f"file {digest.short} is not held here") from None

    def is_rotten(self, digest: Digest) -> bool:
        """Missing, unreadable, or no longer what its name says; reads the whole file.

        Raises: OSError where something else than the file is at fault.
        """
        try:
            prove_file(self._files, self.path(digest), digest)
        except ProofError:
            return True
        return False

    def place(self, source: Path, digest: Digest) -> None:
        """Takes a file whose content was proved; an existing blob of that name is replaced."""
        self._files.make_read_only(source)
        durable.place(self._files, source, self.path(digest))

    def quarantine(self, digest: Digest) -> None:
        """Takes a rotten file out of use. The collector removes it."""
        path = self.path(digest)
        if self._files.exists(path):
            durable.place_folder(self._files, path, path.with_name(path.name + _ROTTEN_SUFFIX))

    def all(self) -> tuple[Digest, ...]:
        return tuple(self._files.digests(self._folder))

    def leftovers(self) -> tuple[Path, ...]:
        """What lies in the folder and is no blob: rotten files, temporary ones."""
        held = {str(digest) for digest in self.all()}
        names = self._files.names(self._folder)
        return tuple(self._folder / name for name in names if name not in held)

    def remove(self, digest: Digest) -> None:
        self._files.unlink(self.path(digest))


def prove_file(files: FileSystem, path: Path, digest: Digest) -> None:
    """Reads a file and compares; once more where the medium refused, which may pass.

    Raises: ProofError (it is not what ``digest`` names, or cannot be read any more), OSError
    (it cannot be read now: nothing was found out).
    """
    try:
        found = _read_digest(files, path)
    except OSError as error:
        if error.errno not in _DAMAGE:
            raise
        found = _read_again(files, path)
    if found != digest:
        raise ProofError(
            f"{path} does not have the digest {digest.short} (it has {found.short}): it was "
            "damaged on this device",
            path=str(path),
            wanted=str(digest),
            got=str(found),
        )


def _read_again(files: FileSystem, path: Path) -> Digest:
    try:
        return _read_digest(files, path)
    except OSError as error:
        if error.errno not in _DAMAGE:
            raise
        raise ProofError(f"{path} cannot be read: {error.strerror}", path=str(path)) from None


def _read_digest(files: FileSystem, path: Path) -> Digest:
    with files.open_read(path) as stream:
        return file_digest(Digest.of(chunk) for chunk in read_chunks(stream))


def good_chunks(files: FileSystem, path: Path, chunks: Sequence[Digest], *, skip: int = 0) -> int:
    """How many chunks of a file, from number ``skip`` on, have the digests wanted, one after
    the other. One that its medium refuses is not good. Raises: OSError (nothing found out).
    """
    good = 0
    try:
        with files.open_read(path) as stream:
            stream.seek(skip * CHUNK_BYTES)
            for wanted, chunk in zip(chunks[skip:], read_chunks(stream), strict=False):
                if Digest.of(chunk) != wanted:
                    break
                good += 1
    except OSError as error:
        if error.errno not in _DAMAGE:
            raise
    return good
