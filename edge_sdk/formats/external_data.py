"""Files beside a model that hold its tensors: found without leaving the model's folder.

Some runtimes follow such paths wherever they lead (onnxruntime 1.23 takes ``..``, absolute
paths and symbolic links), so each is checked here before any runtime sees the model.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_sdk.base import FormatError, check_path

# Not a path: with this location onnxruntime takes the offset for an address in its memory.
_MEMORY_MARK = "_ORT_MEM_ADDR_"


class UnsafePathError(ValueError):
    """A location that leads out of the model's folder, or to something that is no plain file."""


class MissingFileError(ValueError):
    """A location inside the model's folder where there is no file."""


def locate(folder: Path, location: str) -> tuple[str, int]:
    """The path relative to ``folder``, and the size, of the file that ``location`` names.

    Raises: UnsafePathError, MissingFileError.
    """
    relative = _plain_path(location)
    current = folder
    parts = relative.split("/")
    for number, part in enumerate(parts, start=1):
        current = current / part
        try:
            found = current.lstat()
        except FileNotFoundError:
            raise MissingFileError(f"there is no file {relative!r}") from None
        except (OSError, ValueError) as error:
            raise UnsafePathError(f"cannot be looked up: {error}") from None
        if stat.S_ISLNK(found.st_mode) or _is_junction(found):
            raise UnsafePathError(f"{'/'.join(parts[:number])!r} is a symbolic link")
        wanted = stat.S_ISREG if number == len(parts) else stat.S_ISDIR
        if not wanted(found.st_mode):
            raise UnsafePathError(f"{'/'.join(parts[:number])!r} is not a plain file or folder")
    return relative, found.st_size


def _plain_path(location: str) -> str:
    if _MEMORY_MARK in location:
        raise UnsafePathError("it stands for memory of the runtime, not for a file")
    try:
        return check_path(location[2:] if location.startswith("./") else location)
    except FormatError:
        raise UnsafePathError("it is not a plain relative path") from None


def _is_junction(found: os.stat_result) -> bool:
    """Windows has links that are no symbolic links."""
    reparse_point = getattr(stat, "FILE_ATTRIBUTE_REPARSE_POINT", 0)
    return bool(getattr(found, "st_file_attributes", 0) & reparse_point)
