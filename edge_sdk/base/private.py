"""Keys and what they vouch for belong to one person: as ssh does, what others can get at is not
used until that is mended."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edge_sdk.base.errors import RefusedError, UsageError
from edge_sdk.base.files import explain_os_error

_OTHERS, _OTHERS_WRITE, _OTHERS_READ = 0o077, 0o022, 0o044


def make_private_folder(folder: Path) -> None:
    """Makes ``folder`` for its owner alone where it is not there.

    Raises: RefusedError (others can write into the one that is there), UsageError, ResourceError.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{error.filename} is in the way: it must be a folder") from None
    except OSError as error:
        raise explain_os_error(error, folder) from error
    refuse_open_folder(folder)


def refuse_open_folder(folder: Path) -> None:
    """Whoever can write there can put another key, or another authority, into the place of what
    is there. Raises: RefusedError."""
    mode = _own_mode(folder)
    # With the sticky bit (/tmp, mounted secrets) nobody replaces what is another's.
    if mode is not None and mode & _OTHERS_WRITE and not mode & stat.S_ISVTX:
        raise RefusedError(
            f"others can write into {folder} (mode {mode:04o}), so what it holds is not believed; "
            f"look whether it is yours, and: chmod 700 {folder}"
        )


def refuse_open_file(file: Path) -> None:
    """A private key that others can read is one no longer. Raises: RefusedError."""
    mode = _own_mode(file)
    if mode is not None and mode & _OTHERS:
        raise RefusedError(
            f"others can get at the private key in {file} (mode {mode:04o}), so it is not used; "
            f"make it yours alone: chmod 600 {file} (or replace it, if somebody may have read it)"
        )


def others_can_read(file: Path) -> bool:
    """Of a secret that somebody else made or mounted, about which one can only warn."""
    mode = _own_mode(file)
    return mode is not None and bool(mode & _OTHERS_READ)


def _own_mode(path: Path) -> int | None:
    """None where it is not there, or is another's: whose files are mounted for us (a secret of a
    container) said themselves who reads them."""
    if os.name != "posix":
        return None
    try:
        found = path.stat()
    except OSError:
        return None  # who opens it will say
    return stat.S_IMODE(found.st_mode) if found.st_uid == os.geteuid() else None
