"""Addresses of local servers: a Unix socket with a lock beside it, or a loopback port.

A socket file says nothing about whether somebody listens there; the lock does: a live one is
never taken away, a dead one is cleaned up.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agent.config import check_address
from edge_sdk.base import ConflictError, NotFoundError, UsageError
from edge_sdk.rpc import check_local


@contextmanager
def claimed(uri: str) -> Iterator[str]:
    """Yields the address to bind. Raises: UsageError, ConflictError (somebody listens there),
    RefusedError (not this machine), NotFoundError (no such folder)."""
    check_address(uri)
    check_local(uri, insecure=False)
    if not uri.startswith("unix:"):
        yield uri
        return
    path = Path(uri.removeprefix("unix:"))
    lock_path = path.with_name(path.name + ".lock")
    try:
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise NotFoundError(f"no folder {path.parent} for the socket {path}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another process already listens at {path}") from None
        _remove_dead(path)
        yield uri
        _remove_dead(path)
    finally:
        os.close(lock)


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is there and is no socket; give another address")
    path.unlink()
