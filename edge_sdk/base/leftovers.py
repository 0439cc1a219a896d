"""What a killed process left half-made: it holds no lock any more.

Whoever makes something beside its final place locks it as long as it has its temporary name.
Where the system or the disk knows no locks, nothing is ever taken for left.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    _HAS_LOCKS = False
else:
    _HAS_LOCKS = True

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def hold(handle: int, path: Path) -> bool:
    """Locks what was just made at ``path`` and is open as ``handle``, until that is closed.

    False where somebody took it for left in between, and it is gone.
    """
    if not _HAS_LOCKS:
        return True
    with suppress(OSError):  # no locks on this disk
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def remove_leftovers(folder: Path, name: re.Pattern[str]) -> None:
    """Removes the files and folders of such a name that are ours and that no process holds."""
    if not _HAS_LOCKS:
        return
    with suppress(OSError):  # whatever is wrong here will be said by who works here
        for entry in os.scandir(folder):
            if name.fullmatch(entry.name):
                with suppress(OSError):
                    _remove_left(Path(entry.path))


def _remove_left(path: Path) -> None:
    """Raises: OSError (somebody holds it, or it is not ours)."""
    found = path.lstat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return
    if found.st_uid != os.geteuid():
        return
    handle = os.open(path, _FLAGS)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(handle), path.lstat()):
            return
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(handle)
