"""What a process that listens tells its supervisor, once: that its address is its own."""

from __future__ import annotations

import contextlib
import os


def say_ready(handle: int | None, address: str) -> None:
    """On the pipe ``handle``, which is closed then; None: nobody asked."""
    if handle is None:
        return
    with contextlib.suppress(OSError):  # the supervisor is gone
        os.write(handle, address.encode() + b"\n")
    os.close(handle)
