"""Bytes that records refer to by number, after "Addresses" of FORMAT.md."""

from __future__ import annotations

from collections.abc import Sequence

from tests.independent_decoder.reading import need


class Addresses:
    """The bytes of all source files and, where the header says so, of the target made so far.

    ``made`` grows only by what whole records make. So all of it stands before the place of the
    record that reads.
    """

    def __init__(self, sources: Sequence[bytes], made: bytearray, *, target: bool) -> None:
        self.source = b"".join(sources)
        self.made = made
        self.target = target

    def read(self, address: int, length: int) -> bytes:
        """The bytes from ``address`` on, also over the end of the last source file."""
        end = address + length
        split = len(self.source)
        readable = split + (len(self.made) if self.target else 0)
        need(address >= 0 and end <= readable, "bytes that a record must not refer to")
        of_target = self.made[max(address - split, 0) : max(end - split, 0)]
        return self.source[address:end] + bytes(of_target)
