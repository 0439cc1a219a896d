"""Numbers, bits and digests, after "Numbers" of edge_sdk/delta/FORMAT.md.

Like all modules of this folder: written from that text alone, nothing of the project imported,
plain rather than fast. Whatever is refused raises ValueError.
"""

from __future__ import annotations

import hashlib

MIB = 1 << 20
CHUNK = MIB
BEYOND = 1 << 63


def need(holds: bool, otherwise: str) -> None:
    """Refuse, saying why, what breaks a MUST."""
    if not holds:
        raise ValueError(otherwise)


class Reader:
    """Takes numbers off a byte string; refuses what is too short."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        need(self.at + count <= len(self.data), "too short")
        self.at += count
        return self.data[self.at - count : self.at]

    def u16s(self, count: int) -> list[int]:
        raw = self.take(2 * count)
        return [int.from_bytes(raw[at : at + 2], "little") for at in range(0, 2 * count, 2)]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def varint(self, most: int = 9) -> int:
        value = 0
        for number in range(most):
            byte = self.take(1)[0]
            value |= (byte & 127) << (7 * number)
            if byte < 128:
                need(byte > 0 or number == 0, "a varint is not the shortest")
                return value
        raise ValueError("a varint is too long")

    def zigzag(self) -> int:
        value = self.varint()
        return value // 2 if value % 2 == 0 else -((value + 1) // 2)

    def left(self) -> int:
        return len(self.data) - self.at

    def rest(self) -> bytes:
        return self.take(self.left())

    def end(self, what: str) -> None:
        need(self.left() == 0, f"bytes behind {what}")


class Bits:
    """Takes numbers off packed bits; the first bit is the lowest of the first byte."""

    def __init__(self, data: bytes) -> None:
        self.value = int.from_bytes(data, "little")
        self.left = 8 * len(data)

    def take(self, count: int) -> int:
        need(count <= self.left, "too few bits")
        number = self.value & ((1 << count) - 1)
        self.value >>= count
        self.left -= count
        return number

    def gamma(self) -> int:
        zeros = 0
        while self.take(1) == 0:
            zeros += 1
            need(zeros <= 12, "a gamma number is too long")
        value = 1
        for _ in range(zeros):
            value = 2 * value + self.take(1)
        return value

    def end(self) -> None:
        need(self.left < 8 and self.value == 0, "bits left over")


def digest(data: bytes) -> bytes:
    """The digest of a file."""
    whole = hashlib.sha256()
    for at in range(0, len(data), CHUNK):
        whole.update(hashlib.sha256(data[at : at + CHUNK]).digest())
    return whole.digest()
