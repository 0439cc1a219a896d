"""How anything becomes durable: the only place of fsync and rename.

The one sequence that survives a power cut on ext4, xfs and overlayfs alike: write under a
temporary name, fsync, rename, fsync the folder. Leave out the first fsync and zeros or an
empty file stand under the final name; leave out the last and the old one comes back after
success was reported. After a failed fsync nothing is tried again on that file: the kernel
reports the error once and calls the pages clean.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.store.filesystem import FileSystem

TEMPORARY_SUFFIX = ".tmp"


def write_whole(files: FileSystem, path: Path, data: bytes, *, private: bool = False) -> None:
    """``path`` holds ``data``, or what it held before; durable when this returns.

    ``private``: nobody but the owner can ever read it.
    """
    # Begins with a dot: no model, artifact or blob has a name that does.
    temporary = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    if private:
        files.write_private(temporary, data)
    else:
        files.write(temporary, data)
    files.sync_file(temporary)
    files.rename(temporary, path)
    files.sync_folder(path.parent)


def place(files: FileSystem, source: Path, target: Path) -> None:
    """Moves a finished file to its final name, durably; ``source`` may be in another folder."""
    files.sync_file(source)
    files.rename(source, target)
    files.sync_folder(target.parent)


def append(files: FileSystem, path: Path, data: bytes) -> None:
    """Appends and makes it durable. A torn tail is possible and is the reader's to notice."""
    new = not files.exists(path)
    files.append(path, data)
    files.sync_file(path)
    if new:
        files.sync_folder(path.parent)


def settle(files: FileSystem, path: Path) -> None:
    """What an earlier process left in ``path``, perhaps in the page cache only, is durable."""
    files.sync_file(path)


def make_folder(files: FileSystem, path: Path, *, private: bool = False) -> None:
    """Makes one folder, durably, where it is not there yet."""
    if not files.is_folder(path):
        if private:
            files.make_private_folder(path)
        else:
            files.make_folder(path)
        files.sync_folder(path.parent)


def place_folder(files: FileSystem, source: Path, target: Path) -> None:
    """Gives a finished folder, whose files are durable, its final name."""
    files.rename(source, target)
    files.sync_folder(target.parent)


def remove(files: FileSystem, path: Path) -> None:
    """Removes a name, durably: it must not come back after others were told that it is gone."""
    if files.exists(path):
        files.unlink(path)
        files.sync_folder(path.parent)
