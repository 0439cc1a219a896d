"""What ``residual`` and ``planes`` share: whole elements, and the bytes beside them. Source:
FORMAT.md, "Streams"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.delta.coder.rans import LANES
from edge_sdk.delta.frames import Bytes
from edge_sdk.delta.numeric import Bits, ElementKind
from edge_sdk.delta.varint import Cursor

Levels = NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """``length`` bytes: those before the first whole element, ``count`` elements, the tail."""

    length: int
    phase: int
    kind: ElementKind

    @property
    def count(self) -> int:
        return (self.length - self.phase) // self.kind.width_bytes

    @property
    def end(self) -> int:
        return self.phase + self.count * self.kind.width_bytes

    @property
    def edge_bytes(self) -> int:
        return self.length - self.count * self.kind.width_bytes

    def elements(self, data: Bytes) -> Bits:
        """Of shape (count,)."""
        return np.frombuffer(data, self.kind.bits, self.count, self.phase)

    def edges(self, data: Bytes) -> bytes:
        """The bytes beside the elements."""
        return bytes(data[: self.phase]) + bytes(data[self.end :])

    def put_edges(self, data: memoryview, edges: Bytes) -> None:
        """Puts the bytes beside the elements in their places."""
        data[: self.phase] = edges[: self.phase]
        data[self.end :] = edges[self.phase :]


def parse_split(body: Cursor, length: int, kind: ElementKind) -> tuple[Split, int]:
    """Takes phase and lanes. Raises: DeltaError."""
    phase, lanes_log2 = body.varint(), body.varint()
    if phase >= kind.width_bytes or phase > length:
        raise body.error(f"has {phase} bytes before its first element")
    if lanes_log2 not in LANES:
        raise body.error(f"has 2**{lanes_log2} lanes, which is none of 1, 8 and 32")
    return Split(length=length, phase=phase, kind=kind), LANES[lanes_log2]
