"""Canary: which requests a candidate answers beside the version that serves."""

from __future__ import annotations

import itertools
import zlib

from device_agent.serving.sequences import Sequence

_WHOLE = 1 << 16


class Share:
    """A share of all requests, the same ones each time: of those of no sequence every so
    many-th, and of sequences those whose id falls there, so that each stays where it is."""

    def __init__(self, share: float) -> None:
        """``share``: above 0, at most 1; at least one request in 65,536."""
        self._step = max(1, round(share * _WHOLE))
        self._count = itertools.count(1)  # one step of it is not divided between threads

    def takes_next(self) -> bool:
        """Whether the next request of no sequence is among them."""
        number = next(self._count)
        return number * self._step // _WHOLE > (number - 1) * self._step // _WHOLE

    def takes(self, sequence: Sequence) -> bool:
        """Whether a sequence is, by its id alone."""
        return zlib.crc32(repr(sequence.id).encode()) % _WHOLE < self._step
