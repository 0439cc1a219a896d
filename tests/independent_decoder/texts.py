"""Value map 6, "text", after "Value maps" of FORMAT.md."""

from __future__ import annotations

from tests.independent_decoder.reading import MIB, need

TEXT = 6


class Text:
    """Bytes that were written as characters of UTF-8, one character for each."""

    def __init__(self, parameters: bytes, total: int) -> None:
        need(parameters == b"", "parameters of text")
        need(total <= MIB, "a text is too long")
        self.number = TEXT
        self.length = self.total = total

    def takes(self, position: int, length: int) -> tuple[int, int]:
        """Any part takes all of the ranges' bytes."""
        return 0, self.total

    def part(self, raw: bytes, position: int, length: int) -> bytes:
        return from_text(raw).ljust(self.total, b"\0")[position : position + length]


def from_text(raw: bytes) -> bytes:
    """One byte for each character from 128 to 255; all else gives itself."""
    made = bytearray()
    at = 0
    while at < len(raw):
        byte = raw[at]
        behind = raw[at + 1] if at + 1 < len(raw) else 0
        if byte in (194, 195) and 128 <= behind <= 191:
            made.append(behind if byte == 194 else behind + 64)
            at += 2
        else:
            made.append(byte)
            at += 1
    return bytes(made)
