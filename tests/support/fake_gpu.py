"""A GPU in host memory: streams that do nothing until they are waited for, memory that is
checked, and places that can be told to be another card or driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from edge_sdk.base import ResourceError
from edge_sdk.engines.tensorrt.rules import Place, PlanKey, Profile

PLACE = Place(
    gpu="Orin", compute=(8, 7), processors=16, memory_bytes=8 << 30, driver="CUDA 12060; 540.4"
)

# A plan for it, of the artifact aaa...
KEY = PlanKey(
    artifact="a" * 64,
    library="10.3.0",
    place=PLACE,
    flags=("STRONGLY_TYPED", "REFIT", "no TF32"),
    level=3,
    workspace_bytes=0,
    profiles=(Profile(name="x", least=(1, 4), best=(2, 4), most=(8, 4)),),
)


@dataclass
class FakeGpu:
    """``pinned`` and ``memory`` hold what is allocated, by address."""

    here: Place = PLACE
    room_bytes: int = 1 << 30
    pinned: dict[int, Any] = field(default_factory=dict)
    memory: dict[int, Any] = field(default_factory=dict)
    streams: dict[int, list[tuple[frozenset[int], Callable[[], object]]]] = field(
        default_factory=dict
    )

    def move(self, **changes: Any) -> None:
        """The same disk in another machine, or under another driver."""
        self.here = replace(self.here, **changes)

    def place(self) -> Place:
        return self.here

    def take_pinned(self, size_bytes: int) -> int:
        return self._take(self.pinned, size_bytes)

    def free_pinned(self, address: int) -> None:
        self._free(self.pinned, address)

    def take(self, size_bytes: int) -> int:
        if size_bytes > self.room_bytes:
            raise ResourceError("the GPU has no memory left: out of memory", what="memory")
        return self._take(self.memory, size_bytes)

    def free(self, address: int) -> None:
        self._free(self.memory, address)

    def open_stream(self) -> int:
        number = max(self.streams, default=0) + 1  # 0 is the default stream, which nobody is given
        self.streams[number] = []
        return number

    def close_stream(self, stream: int) -> None:
        assert not self.streams.pop(stream), "a stream was closed with work in it"

    def copy_in(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        assert size_bytes <= len(self.memory[target])
        assert size_bytes <= len(self.pinned[source])
        self.later(stream, {target, source}, lambda: _copy(target, source, size_bytes))

    def copy_out(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        assert size_bytes <= len(self.pinned[target])
        assert size_bytes <= len(self.memory[source])
        self.later(stream, {target, source}, lambda: _copy(target, source, size_bytes))

    def later(self, stream: int, addresses: set[int], work: Callable[[], object]) -> None:
        """``work`` on these addresses, done when somebody waits for the stream."""
        self.streams[stream].append((frozenset(addresses), work))

    def wait(self, stream: int) -> None:
        pending = self.streams[stream]
        while pending:
            pending.pop(0)[1]()

    def read(self, address: int, size_bytes: int) -> bytes:
        """For the stand-in of TensorRT: only memory of the GPU can be read by it."""
        return bytes(self.memory[address][:size_bytes])

    def write(self, address: int, data: bytes) -> None:
        assert len(data) <= len(self.memory[address]), "a write beyond the memory"
        ctypes.memmove(address, data, len(data))

    def _take(self, kind: dict[int, Any], size_bytes: int) -> int:
        assert size_bytes > 0
        block = (ctypes.c_char * size_bytes)()
        kind[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def _free(self, kind: dict[int, Any], address: int) -> None:
        # What others have in hand meanwhile does not matter: the garbage of one session may be
        # found in the middle of another's run.
        used = (addresses for pending in self.streams.values() for addresses, _ in pending)
        assert all(address not in one for one in used), "memory was freed while in use"
        del kind[address]


def _copy(target: int, source: int, size_bytes: int) -> None:
    ctypes.memmove(target, source, size_bytes)
