"""The lane's socket lies beside that of the inference protocol."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

_SUFFIX = ".lane"
_PATH_BYTES_MAX = 107  # of the kernel


def lane_path(address: str) -> Path | None:
    """The socket file of the lane beside an inference address; None: that has no lane.

    Only a ``unix:`` address has one: TCP says nothing about being on the same machine.
    """
    offered = hasattr(socket, "SOCK_SEQPACKET") and hasattr(os, "memfd_create")
    if not offered or sys.byteorder != "little" or not address.startswith("unix:"):
        return None
    path = address.removeprefix("unix:") + _SUFFIX
    if path == _SUFFIX or len(os.fsencode(path)) > _PATH_BYTES_MAX:
        return None
    return Path(path)
