"""Output files of commands: whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge_sdk.base.errors import ConflictError, NotFoundError, ResourceError, UsageError

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """Opens a temporary file that takes the name ``path`` only when the block ends well.

    The bytes and the name are durable afterwards (fsync, rename, fsync of the folder). On
    any exception, Ctrl-C included, the temporary file is gone and ``path`` is untouched.

    Raises: ConflictError (``path`` is there and ``replace`` is false), NotFoundError (no
    such folder), UsageError (``path`` is a folder), ResourceError (disk full).
    """
    refuse_existing(path, replace=replace)
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        stream = temporary.open("xb")
    except FileNotFoundError:
        raise NotFoundError(f"no folder {path.parent} to write {path.name} into") from None
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        refuse_existing(path, replace=replace)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise explain_os_error(error, path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def refuse_existing(path: Path, *, replace: bool) -> None:
    """Raises: UsageError (a folder stands there), ConflictError (a file does; not to replace)."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file to write")
    if not replace and (path.exists() or path.is_symlink()):
        raise ConflictError(f"{path} is already there; give --force to replace it")


def sync_folder(folder: Path) -> None:
    """Makes renames within a folder durable: a rename is only as durable as its folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain_os_error(error: OSError, path: Path) -> Exception:
    """The typed error for a failed file operation; the error itself where it is no such case."""
    if error.errno in _OUT_OF_SPACE:
        return ResourceError(f"no space left to write {path}; free some and run it again")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"no such file or folder: {path}")
    if isinstance(error, PermissionError):
        return UsageError(f"no permission for {path}")
    if isinstance(error, (IsADirectoryError, NotADirectoryError)):
        return UsageError(f"{path} is not the kind of file that is needed here")
    return error
