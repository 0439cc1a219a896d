"""Where the running agent listens: its own commands find it by the state folder alone.

A file there has the address for as long as a process holds a lock on it, so that what a killed
agent left is believed by nobody: somebody else may listen there by now.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FILE = "listening"
_ADDRESS_BYTES_MAX = 4096


@contextmanager
def listening(state: Path, address: str) -> Iterator[None]:
    """Says it while the block lasts. One process at a time: whoever holds the state folder."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(state / _FILE, flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # a moment at most: only ``running_address`` has it else
        os.ftruncate(file, 0)
        os.write(file, address.encode())
        yield
    finally:
        os.close(file)


def running_address(state: Path) -> str:
    """Empty: no agent runs on this folder, or the folder says nothing to us."""
    try:
        file = os.open(state / _FILE, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(file, _ADDRESS_BYTES_MAX).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(file)
    return ""  # nobody holds it
