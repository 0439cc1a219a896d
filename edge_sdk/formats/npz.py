"""Arrays from an NPZ file that somebody else made: plain arrays only, never a pickle."""

from __future__ import annotations

import errno
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import FormatError, UsageError, explain_os_error


def is_npz(path: Path) -> bool:
    """Whether a file looks like one. Raises: NotFoundError, UsageError (no regular file)."""
    try:
        # Asked before opening: a FIFO would wait for a writer, /dev/zero never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is not a regular file; name an NPZ file")
        return zipfile.is_zipfile(path)
    except OSError as error:
        raise explain_os_error(error, path) from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """All arrays of a file by name, in memory.

    Raises: FormatError, NotFoundError, UsageError.
    """
    if not is_npz(path):
        raise FormatError(f"{path} is not an NPZ file; save one by numpy.savez")
    try:
        # A stream of ours: NumPy leaves its own open when the file is damaged. A pickle could
        # run code: allow_pickle stays off.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except OSError as error:
        # A seek to before the file's start, or damage within bzip2 data, which has no number.
        if error.errno in (errno.EINVAL, None):
            raise _damaged(path, error) from None
        raise explain_os_error(error, path) from error
    except Exception as error:  # noqa: BLE001
        # zipfile and NumPy promise no kind of error for damage. Seen on hostile files, besides
        # those of their own and of the compressors: ValueError, KeyError, EOFError, OverflowError,
        # RuntimeError, MemoryError (a shape), SyntaxError and TokenError (NumPy reads a header as
        # Python does).
        raise _damaged(path, error) from None
    strange = [name for name, array in found.items() if not isinstance(array, np.ndarray)]
    if strange:
        raise FormatError(f"{path} holds {strange[0]!r}, which is no array")
    return found


def _damaged(path: Path, error: Exception) -> FormatError:
    return FormatError(f"{path} is not an NPZ file of plain arrays: {error}")
