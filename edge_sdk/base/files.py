"""Output files of commands: whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from edge_sdk.base.errors import ConflictError, NotFoundError, ResourceError, UsageError

_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOO_MANY_FILES = (errno.EMFILE, errno.ENFILE)
# What somebody named that the system does not take: the path has to change, not the program.
_IMPOSSIBLE = (errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS, errno.EBUSY, errno.ENXIO)


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
    """Raises: UsageError (a folder or a device stands there), ConflictError (a file does, and
    is not to be replaced)."""
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder; name a file to write")
    if not replace and mode is not None:
        raise ConflictError(f"{path} is already there; give --force to replace it")
    # A rename would put a plain file in the place of /dev/null.
    if mode is not None and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise UsageError(f"{path} is no regular file; name another file to write")


def _mode(path: Path) -> int | None:
    """What stands at ``path``, or where a link there leads; None where nothing does."""
    try:
        return path.stat().st_mode
    except OSError as error:
        try:
            return path.lstat().st_mode  # a link that leads nowhere is something too
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:
            raise explain_os_error(error, path) from error


def refuse_overlap(output: Path, inputs: Iterable[Path]) -> None:
    """Refuses an output that would take the place of what it is made from.

    Raises: UsageError where ``output`` is one of ``inputs``, or a folder with one in it.
    """
    place = Path(os.path.realpath(output))
    for one in inputs:
        real = Path(os.path.realpath(one))
        if real == place or place in real.parents:
            how = "is" if real == place else "holds"
            raise UsageError(f"the output {output} {how} the input {one}; name another output")


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
    if error.errno in _TOO_MANY_FILES:
        return ResourceError(f"too many open files for {path}; allow more (ulimit -n)")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"no such file or folder: {path}")
    if isinstance(error, PermissionError):
        return UsageError(f"no permission for {path}")
    if isinstance(error, IsADirectoryError):
        return UsageError(f"{path} is a folder; a file is needed here")
    if isinstance(error, NotADirectoryError):
        return UsageError(f"{path} is not the kind of file that is needed here")
    if error.errno in _IMPOSSIBLE:
        return UsageError(f"{path} cannot be used: {error.strerror}")
    return error
