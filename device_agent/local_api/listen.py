"""Addresses of local servers: a Unix socket, or a loopback port.

A socket file says nothing about whether somebody listens there; asking does: a live one is
never taken away, a dead one is cleaned up.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agent.config import check_address
from edge_sdk.base import NotFoundError, UsageError
from edge_sdk.rpc import check_local, refuse_live


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
    if not path.parent.is_dir():
        raise NotFoundError(f"no folder {path.parent} for the socket {path}")
    refuse_live(uri)
    _remove_dead(path)
    try:
        yield uri
    finally:
        _remove_dead(path)


def _remove_dead(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise UsageError(f"{path} is there and is no socket; give another address")
    path.unlink(missing_ok=True)  # gRPC may be at it as well
