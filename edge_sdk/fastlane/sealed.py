"""The receiver's side of shared memory: looked at before it is mapped."""

from __future__ import annotations

import mmap
import os
import stat

from edge_sdk.base import FormatError

# Without the first two, whoever holds the other end could cut the memory off: a touch would
# then be SIGBUS. The third keeps a seal against writing from being added.
_SEALS = ("F_SEAL_SHRINK", "F_SEAL_GROW", "F_SEAL_SEAL")


def map_sealed(descriptor: int, size_bytes: int) -> mmap.mmap:
    """Maps memory that a peer passed; the descriptor stays the caller's to close.

    Raises: FormatError where it is not sealed memory of exactly this size, writable.
    """
    import fcntl  # not on Windows, where this is never called but must be importable

    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size != size_bytes or not size_bytes:
        raise FormatError(
            f"the peer passed {status.st_size} bytes of memory where {size_bytes} were announced"
        )
    wanted = 0
    for name in _SEALS:
        wanted |= getattr(fcntl, name)
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError:
        raise FormatError("the peer passed a file that cannot be sealed") from None
    if seals & wanted != wanted or seals & fcntl.F_SEAL_WRITE:
        raise FormatError(f"the peer passed memory with seals {seals:#x}, not {wanted:#x}")
    try:
        return mmap.mmap(descriptor, size_bytes)
    except OSError as error:
        raise FormatError(f"the memory that the peer passed cannot be mapped: {error}") from None
