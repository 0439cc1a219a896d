"""The files that a publisher names, as they lie on this machine's disk.

The one module of this room that asks the disk what a path is. Symbolic links are never
followed: a link could bring a file of the publisher's machine into an artifact unseen.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_sdk.base import FormatError, NotFoundError, UsageError, check_path, explain_os_error


def list_files(folder: Path) -> tuple[str, ...]:
    """The relative POSIX paths of every file below ``folder``, sorted.

    Raises: FormatError (a link, a socket, a device; a name that other disks cannot hold),
    UsageError (no file at all).
    """
    found = sorted(_walk(folder, ""))
    if not found:
        raise UsageError(f"{folder} holds no file to publish")
    return tuple(found)


def _walk(folder: Path, prefix: str) -> list[str]:
    paths: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                relative = check_path(f"{prefix}{entry.name}")
                if entry.is_symlink():
                    raise _refused(relative, "a symbolic link")
                if entry.is_dir(follow_symlinks=False):
                    paths += _walk(folder / entry.name, f"{relative}/")
                elif entry.is_file(follow_symlinks=False):
                    paths.append(relative)
                else:
                    raise _refused(relative, "no regular file")
    except OSError as error:
        raise explain_os_error(error, folder) from error
    return paths


def _refused(path: str, what: str) -> FormatError:
    return FormatError(
        f"{path} is {what}; an artifact holds regular files only: put the file itself there",
        path=path,
    )


def kind_of(path: Path) -> str:
    """``file`` or ``folder``. Raises: NotFoundError, FormatError (neither, or a link)."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise NotFoundError(f"no such file or folder: {path}") from None
    except OSError as error:
        raise explain_os_error(error, path) from error
    if stat.S_ISLNK(mode):
        # What a person names on the command line may be a link; what lies below may not.
        mode = path.stat().st_mode if path.exists() else 0
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    raise FormatError(f"{path} is neither a file nor a folder")
