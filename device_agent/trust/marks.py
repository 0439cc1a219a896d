"""Marks: durable copies of what was verified, so that nothing older is believed later.

The client's own cache loses its memory with a file or two, and then takes an older repository
for a new one. So the verified bytes of every root, of the timestamp and of the snapshot are
kept beside it, twice, and are put back before the client starts. They are bytes, not version
numbers: a mark is verified again against the newest root, so that it falls away by itself when
the keys that signed it were replaced, and a repository can recover from a stolen key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Timestamp

from device_agent.store import durable
from device_agent.store.filesystem import FileSystem

_COPIES = ("a", "b")
_MARKED: dict[str, type[Timestamp | Snapshot]] = {
    "timestamp.json": Timestamp,
    "snapshot.json": Snapshot,
}

Marked = TypeVar("Marked", bound=Root | Timestamp | Snapshot)


def is_marked(name: str) -> bool:
    """Whether a file of that name protects from going back: targets never do."""
    return name in _MARKED or name.endswith(".root.json")


class Marks:
    """Two folders with the same files."""

    def __init__(self, files: FileSystem, folder: Path) -> None:
        self._files = files
        self._folder = folder

    def keep(self, name: str, data: bytes) -> None:
        """Durable in both when this returns; one of them is whole at any moment.

        Raises: OSError.
        """
        for copy in _COPIES:
            path = self._folder / copy / name
            if read_or_none(self._files, path) != data:
                make_way(self._files, path, below=self._folder.parent)
                durable.write_whole(self._files, path, data)

    def copies(self, name: str) -> list[bytes]:
        """What can be read, without any judgement."""
        read = (read_or_none(self._files, self._folder / copy / name) for copy in _COPIES)
        return [data for data in read if data is not None]


def put_back(marks: Marks, files: FileSystem, cache: Path, factory_root: bytes) -> None:
    """The cache then holds the newest that marks and cache can prove, and marks hold it too.

    Raises: OSError, RepositoryError (the factory root is none).
    """
    root = trusted_root(factory_root)
    while True:
        name = f"{root.version + 1}.root.json"
        candidates = _candidates(marks, files, name, cache / "root_history" / name)
        found = next(_successors(root, candidates), None)
        if found is None:
            break
        root, data = found
        _restore(marks, files, cache, cache / "root_history" / name, data)
    for name in _MARKED:
        newest = _newest(root, name, _candidates(marks, files, name, cache / name))
        if newest is not None:
            _restore(marks, files, cache, cache / name, newest)


def trusted_root(data: bytes) -> Root:
    """Raises: RepositoryError where ``data`` is no root that its own keys signed."""
    metadata = Metadata[Root].from_bytes(data)
    if metadata.signed.type != Root.type:
        raise RepositoryError("the factory root is no root metadata")
    metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def read_or_none(files: FileSystem, path: Path) -> bytes | None:
    """A folder in its place, or a disk that does not give it, is as if it were not there."""
    try:
        return files.read(path)
    except OSError:
        return None


def make_way(files: FileSystem, path: Path, *, below: Path) -> None:
    """A file can be written at ``path``: between it and ``below`` are folders, and none is in
    its own place. Whatever lay there instead is removed. Raises: OSError."""
    for parent in reversed([one for one in path.parents if one.is_relative_to(below)]):
        if files.exists(parent) and not files.is_folder(parent):
            durable.remove(files, parent)
        durable.make_folder(files, parent)
    if files.is_folder(path):
        remove_tree(files, path)


def remove_tree(files: FileSystem, path: Path) -> None:
    """A folder with all that is in it, or a file. Raises: OSError."""
    if not files.is_folder(path):
        durable.remove(files, path)
        return
    for name in files.names(path):
        remove_tree(files, path / name)
    files.remove_folder(path)
    files.sync_folder(path.parent)


def _candidates(marks: Marks, files: FileSystem, name: str, cached: Path) -> list[bytes]:
    found = [*marks.copies(name), read_or_none(files, cached)]
    return [data for data in dict.fromkeys(found) if data is not None]


def _restore(marks: Marks, files: FileSystem, cache: Path, cached: Path, data: bytes) -> None:
    marks.keep(cached.name, data)
    if read_or_none(files, cached) != data:
        make_way(files, cached, below=cache)
        durable.write_whole(files, cached, data)


def _successors(root: Root, candidates: list[bytes]) -> Iterator[tuple[Root, bytes]]:
    """Those that follow ``root``: the next version, signed by its keys and by their own."""
    for data in candidates:
        try:
            metadata = Metadata[Root].from_bytes(data)
            if metadata.signed.version != root.version + 1:
                continue
            root.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
            yield trusted_root(data), data
        except RepositoryError:
            continue


def _newest(root: Root, name: str, candidates: list[bytes]) -> bytes | None:
    """The highest version that ``root``'s keys signed."""
    signed = [(signed_by(root, _MARKED[name], data), data) for data in candidates]
    proved = [(one.version, data) for one, data in signed if one is not None]
    return max(proved, default=(0, None))[1]


def signed_by(root: Root, role: type[Marked], data: bytes) -> Marked | None:
    """What ``data`` says, if it is of that role and ``root`` names who signed it."""
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(data)
        root.verify_delegate(role.type, metadata.signed_bytes, metadata.signatures)
    except RepositoryError:
        return None
    signed = metadata.signed
    return signed if isinstance(signed, role) else None
