"""Numbers of the format, each with one valid spelling. Source: FORMAT.md, "Numbers"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_sdk.base import DeltaError

VALUE_MAX = 2**63 - 1
VARINT_BYTES_MAX = 9  # 9 groups of 7 bits hold every number below 2**63


def put_varint(out: bytearray, value: int) -> None:
    """Appends ``value`` (0 to 2**63 - 1) in the shortest form."""
    if not 0 <= value <= VALUE_MAX:
        raise DeltaError(f"{value} cannot be written: numbers are 0 to 2**63 - 1")
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def varints(*values: int) -> bytes:
    """Several numbers one after the other."""
    out = bytearray()
    for value in values:
        put_varint(out, value)
    return bytes(out)


def put_signed(out: bytearray, value: int) -> None:
    """Appends a number that may be negative: 2v for v >= 0, -2v - 1 for v < 0."""
    put_varint(out, 2 * value if value >= 0 else -2 * value - 1)


class Cursor:
    """Reads a complete piece of a container from its start; never past its end.

    ``what`` names the piece in errors. Raises: DeltaError from every method.
    """

    __slots__ = ("_data", "_what", "position")

    def __init__(self, data: bytes | bytearray | memoryview, what: str) -> None:
        self._data = memoryview(data)
        self._what = what
        self.position = 0

    def __len__(self) -> int:
        """Bytes that are left."""
        return len(self._data) - self.position

    def varint(self) -> int:
        """The next number; any spelling but the shortest is refused."""
        if self.position < len(self._data) and (byte := self._data[self.position]) < 0x80:
            self.position += 1  # most numbers are small
            return byte
        value = 0
        for count in range(VARINT_BYTES_MAX):
            if self.position >= len(self._data):
                raise self.error("ends within a number")
            byte = self._data[self.position]
            self.position += 1
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                if byte == 0 and count:
                    raise self.error("holds a number with padding")
                return value
        raise self.error("holds a number of 2**63 or more")

    def varints(self, count: int) -> NDArray[np.uint64]:
        """The next ``count`` numbers, as by ``varint``; takes about 50 bytes of memory for each."""
        window = np.frombuffer(self._data[self.position :][: VARINT_BYTES_MAX * count], np.uint8)
        if len(window) >= count and window[:count].max(initial=0) < 0x80:
            self.position += count
            return window[:count].astype(np.uint64)
        ends = np.flatnonzero(window < 0x80)[:count]
        lengths = np.diff(ends, prepend=-1)
        longest = int(lengths.max(initial=1))
        padded = (window[ends] == 0) & (lengths > 1)
        if len(ends) < count or longest > VARINT_BYTES_MAX or padded.any():
            for _ in range(count):
                self.varint()  # says which one it is
        starts = ends - lengths + 1
        values = (window[starts] & 0x7F).astype(np.uint64)
        for group in range(1, longest):
            long = np.flatnonzero(lengths > group)
            groups = (window[starts[long] + group] & 0x7F).astype(np.uint64)
            values[long] |= groups << np.uint64(7 * group)
        self.position += int(lengths.sum())
        return values

    def signed(self) -> int:
        """The next number, which may be negative."""
        folded = self.varint()
        return -(folded // 2) - 1 if folded & 1 else folded // 2

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes, not copied."""
        if count > len(self):
            raise self.error(f"ends {count - len(self)} bytes too early")
        piece = self._data[self.position : self.position + count]
        self.position += count
        return piece

    def rest(self) -> memoryview:
        """All bytes that are left."""
        return self.take(len(self))

    def end(self) -> None:
        """Refuses bytes that are left."""
        if len(self):
            raise self.error(f"has {len(self)} bytes too many")

    def error(self, problem: str) -> DeltaError:
        return DeltaError(f"{self._what} {problem}", piece=self._what, position=self.position)
