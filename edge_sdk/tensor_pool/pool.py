"""The pool: slabs by size class, a budget, and what was found out about their use."""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edge_sdk.base import ResourceError
from edge_sdk.tensor_pool.errors import SlabError
from edge_sdk.tensor_pool.sealed import SealedSlab
from edge_sdk.tensor_pool.size_classes import size_class
from edge_sdk.tensor_pool.sources import AnonymousMemory, SlabSource

_BLOCK_BYTES = 64 << 10  # small slabs are cut from blocks of this size
_POISON = 0xA5


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """``held_bytes``: taken from the source. ``used_bytes``: in slabs that are in use now."""

    budget_bytes: int
    held_bytes: int
    used_bytes: int
    used_high_water_bytes: int
    slabs_used: int
    acquired: int  # since the start
    reused: int  # of these, without asking the source
    refused: int


class _Block:
    """A piece of the source's memory, cut into slabs of one class."""

    def __init__(self, memory: mmap.mmap, size_bytes: int) -> None:
        self.memory = memory
        self.size_bytes = size_bytes
        # The array is let go at once: memory that something still looks at cannot be freed.
        self.address = int(np.frombuffer(memory, np.uint8).ctypes.data)
        self.slabs: list[Slab] = []


class Slab:
    """A piece of the pool's memory, its holder's until released.

    The next holder of the same memory gets another Slab: one that was released stays so.
    """

    __slots__ = ("_block", "_held", "_number", "_pool", "address", "class_bytes", "size_bytes")

    def __init__(
        self, pool: TensorPool, block: _Block, number: int, address: int, class_bytes: int
    ) -> None:
        self._pool = pool
        self._block = block
        self._number = number  # in its block
        self._held = False
        self.address = address
        self.class_bytes = class_bytes
        self.size_bytes = 0

    @property
    def view(self) -> memoryview:
        """The bytes asked for, writable. Raises: SlabError after the release."""
        if not self._held:
            raise SlabError("a slab was used after its release")
        begin = self.address - self._block.address
        return memoryview(self._block.memory)[begin : begin + self.size_bytes]

    def array(self, dtype: DTypeLike, shape: Sequence[int]) -> NDArray[Any]:
        """The slab's first bytes as an array. It must not be used after the release.

        Raises: SlabError (released, or too small for the shape).
        """
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        if count * kind.itemsize > self.size_bytes:
            raise SlabError(
                f"{count} elements of {kind} need {count * kind.itemsize} bytes; the slab has "
                f"{self.size_bytes}"
            )
        return np.frombuffer(self.view, kind, count).reshape(shape)

    def release(self) -> None:
        """Gives the slab back to the pool. Raises: SlabError when that was done before."""
        self._pool.take_back(self)


class TensorPool:
    """Slabs for tensors, for any number of threads.

    With ``check`` a released slab is filled with a pattern, and a write after the release is
    found when the slab is used again: for tests and fault finding, it costs a fill each time.
    """

    def __init__(
        self, *, budget_bytes: int, source: SlabSource | None = None, check: bool = False
    ) -> None:
        self._source = source or AnonymousMemory()
        self._budget_bytes = budget_bytes
        self.check = check
        self._lock = threading.Lock()
        self._free: dict[int, list[Slab]] = {}
        self._blocks: list[_Block] = []
        self._held_bytes = self._used_bytes = self._high_water_bytes = 0
        self._used = self._acquired = self._reused = self._refused = 0

    def acquire(self, size_bytes: int) -> Slab:
        """A slab of at least ``size_bytes``; what is in it is left over from others.

        Raises: ResourceError when the budget or the machine's memory does not allow it.
        """
        class_bytes = size_class(size_bytes)
        with self._lock:
            free = self._free.setdefault(class_bytes, [])
            if free:
                self._reused += 1
            else:
                free.extend(self._new_block(class_bytes).slabs)
            slab = free.pop()
            self._acquired += 1
            self._used += 1
            self._used_bytes += class_bytes
            self._high_water_bytes = max(self._high_water_bytes, self._used_bytes)
            slab._held = True
            slab.size_bytes = size_bytes
        if self.check:
            self._check_untouched(slab)
        return slab

    def acquire_sealed(self, size_bytes: int) -> SealedSlab:
        """Memory to share with one other process; counted here, never used again for others.

        Raises: ResourceError when the budget or the machine's memory does not allow it.
        """
        with self._lock:
            if self._held_bytes + size_bytes > self._budget_bytes:
                self._trim()
            try:
                if self._held_bytes + size_bytes > self._budget_bytes:
                    raise MemoryError
                slab = SealedSlab(size_bytes, self._sealed_released)
            except (OSError, MemoryError):
                raise self._refuse(size_bytes) from None
            self._acquired += 1
            self._count_sealed(slab.size_bytes, 1)
            self._high_water_bytes = max(self._high_water_bytes, self._used_bytes)
        return slab

    def take_back(self, slab: Slab) -> None:
        """What ``Slab.release`` calls. Raises: SlabError."""
        if self.check and slab._held:
            ctypes.memset(slab.address, _POISON, slab.class_bytes)
        with self._lock:
            if not slab._held:
                raise SlabError("a slab was released twice")
            slab._held = False
            self._used -= 1
            self._used_bytes -= slab.class_bytes
            block = slab._block
            fresh = Slab(self, block, slab._number, slab.address, slab.class_bytes)
            block.slabs[slab._number] = fresh
            self._free[slab.class_bytes].append(fresh)

    def owns(self, array: NDArray[Any]) -> bool:
        """Whether an array lies wholly inside one slab that is in use."""
        begin = array.ctypes.data
        end = begin + array.nbytes
        with self._lock:
            return any(
                slab._held and slab.address <= begin and end <= slab.address + slab.size_bytes
                for block in self._blocks
                for slab in block.slabs
            )

    def trim(self) -> int:
        """Gives blocks of which no slab is in use back to the source. Returns their bytes."""
        with self._lock:
            return self._trim()

    def statistics(self) -> PoolStatistics:
        with self._lock:
            return PoolStatistics(
                budget_bytes=self._budget_bytes,
                held_bytes=self._held_bytes,
                used_bytes=self._used_bytes,
                used_high_water_bytes=self._high_water_bytes,
                slabs_used=self._used,
                acquired=self._acquired,
                reused=self._reused,
                refused=self._refused,
            )

    def _new_block(self, class_bytes: int) -> _Block:
        many_bytes = max(class_bytes, _BLOCK_BYTES // class_bytes * class_bytes)
        if self._held_bytes + many_bytes > self._budget_bytes:
            self._trim()
        room_bytes = self._budget_bytes - self._held_bytes
        size_bytes = many_bytes if many_bytes <= room_bytes else class_bytes
        try:
            if size_bytes > room_bytes:
                raise MemoryError
            memory = self._source.allocate(size_bytes)
        except (OSError, MemoryError):
            raise self._refuse(class_bytes) from None
        block = _Block(memory, size_bytes)
        block.slabs = [
            Slab(self, block, number, block.address + begin, class_bytes)
            for number, begin in enumerate(range(0, size_bytes, class_bytes))
        ]
        if self.check:
            ctypes.memset(block.address, _POISON, size_bytes)
        self._blocks.append(block)
        self._held_bytes += size_bytes
        return block

    def _refuse(self, size_bytes: int) -> ResourceError:
        self._refused += 1
        return ResourceError(
            f"no memory for a tensor of {size_bytes} bytes: {self._used_bytes} of "
            f"{self._budget_bytes} bytes are in use",
            wanted_bytes=size_bytes,
            budget_bytes=self._budget_bytes,
        )

    def _sealed_released(self, slab: SealedSlab) -> None:
        with self._lock:
            self._count_sealed(-slab.size_bytes, -1)

    def _count_sealed(self, size_bytes: int, slabs: int) -> None:
        self._held_bytes += size_bytes
        self._used_bytes += size_bytes
        self._used += slabs

    def _trim(self) -> int:
        idle = [block for block in self._blocks if not any(slab._held for slab in block.slabs)]
        return sum(self._give_back(block) for block in idle)

    def _give_back(self, block: _Block) -> int:
        try:
            self._source.free(block.memory)
        except BufferError:
            return 0  # somebody kept an array of a released slab: its memory stays in place
        self._blocks.remove(block)
        free = self._free[block.slabs[0].class_bytes]
        free[:] = [slab for slab in free if slab._block is not block]
        self._held_bytes -= block.size_bytes
        return block.size_bytes

    def _check_untouched(self, slab: Slab) -> None:
        now = (ctypes.c_ubyte * slab.class_bytes).from_address(slab.address)
        if (np.frombuffer(memoryview(now), np.uint8) != _POISON).any():
            raise SlabError(f"a slab of {slab.class_bytes} bytes was written to after its release")
