"""Memory that is shared with another process, which cannot cut it off."""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable

_NAME = "edge-slot"


class SealedSlab:
    """A memfd of fixed size, mapped here; a peer that gets ``descriptor`` maps it too.

    Another process sees and writes it at any time: copy out of it before trusting what is in
    it. It is given to one peer and never to another.
    """

    def __init__(self, size_bytes: int, released: Callable[[SealedSlab], None]) -> None:
        """Raises: OSError where the machine gives no such memory."""
        self.size_bytes = size_bytes
        self._released = released
        self._held = True
        self.descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size_bytes)
            # Otherwise a peer that makes it shorter ends this process with SIGBUS.
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
            self.memory = mmap.mmap(self.descriptor, size_bytes)
        except BaseException:
            os.close(self.descriptor)
            raise

    def release(self) -> None:
        """Gives the memory back to the system once the peer has let go of it too.

        Views must be gone before. Again is allowed.
        """
        if not self._held:
            return
        self._held = False
        os.close(self.descriptor)
        try:
            self.memory.close()
        finally:
            self._released(self)
