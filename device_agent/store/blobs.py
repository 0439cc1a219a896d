"""Blobs: proved files, read-only and immutable, named by their digest; files that several
artifacts share exist once. A rotten one is put aside and is never a source again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from device_agent.store import durable
from device_agent.store.filesystem import FileSystem
from edge_sdk.base import Digest, EdgeError, NotFoundError, ProofError, read_chunks
from edge_sdk.base.digest import file_digest

_ROTTEN_SUFFIX = ".rotten"


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

    def prove(self, digest: Digest) -> None:
        """Reads the file and compares. Raises: NotFoundError, ProofError."""
        with self.open(digest) as stream:
            prove_file(stream, digest, self.path(digest))

    def is_rotten(self, digest: Digest) -> bool:
        """Missing, unreadable, or no longer what its name says; reads the whole file."""
        try:
            self.prove(digest)
        except (EdgeError, OSError):
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


def prove_file(stream: BinaryIO, digest: Digest, path: Path) -> None:
    """Raises: ProofError where the stream's bytes do not have ``digest``."""
    found = file_digest(Digest.of(chunk) for chunk in read_chunks(stream))
    if found != digest:
        raise ProofError(
            f"{path} does not have the digest {digest.short} (it has {found.short}): it was "
            "damaged on this device",
            path=str(path),
            wanted=str(digest),
            got=str(found),
        )


def first_bad_chunk(stream: BinaryIO, chunks: Sequence[Digest]) -> int:
    """How many chunks from the start have the digests wanted, one after the other."""
    good = 0
    for chunk in read_chunks(stream):
        if good == len(chunks) or Digest.of(chunk) != chunks[good]:
            break
        good += 1
    return good
