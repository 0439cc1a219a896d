"""Arrays from an NPZ file that somebody else made: plain arrays only, never a pickle."""

from __future__ import annotations

import errno
import lzma
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import FormatError, UsageError, explain_os_error

# What zipfile and NumPy raise on hostile files: a member that is encrypted (RuntimeError) or
# compressed in an unknown way (NotImplementedError, a RuntimeError), a shape beyond 64 bits or
# beyond the memory (MemoryError), a type that is no type (SyntaxError).
_DAMAGED = (
    lzma.LZMAError,
    struct.error,
    MemoryError,
    SyntaxError,
    ValueError,
    KeyError,
    EOFError,
    OverflowError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


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
    except _DAMAGED as error:
        raise _damaged(path, error) from None
    strange = [name for name, array in found.items() if not isinstance(array, np.ndarray)]
    if strange:
        raise FormatError(f"{path} holds {strange[0]!r}, which is no array")
    return found


def _damaged(path: Path, error: Exception) -> FormatError:
    return FormatError(f"{path} is not an NPZ file of plain arrays: {error}")
