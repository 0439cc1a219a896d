"""One agent for one folder: two would both write journal and slots."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_sdk.base import ConflictError


@contextmanager
def only_one(root: Path) -> Iterator[None]:
    """Holds the folder while the block lasts; the kernel lets go of it however we end.

    Raises: ConflictError.
    """
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConflictError(f"an agent already runs on the folder {root}") from None
    finally:
        os.close(lock)
