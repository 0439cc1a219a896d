"""Where slabs come from."""

from __future__ import annotations

import mmap
from typing import Protocol


class SlabSource(Protocol):
    """Gives memory that begins at a multiple of 64 bytes and reads as zeros."""

    def allocate(self, size_bytes: int) -> mmap.mmap:
        """Raises: OSError or MemoryError where there is none."""

    def free(self, memory: mmap.mmap) -> None: ...


class AnonymousMemory:
    """Private memory of this process, given back to the system when freed.

    Not the allocator's: what malloc gets back it may keep.
    """

    def allocate(self, size_bytes: int) -> mmap.mmap:
        return mmap.mmap(-1, size_bytes)

    def free(self, memory: mmap.mmap) -> None:
        memory.close()
