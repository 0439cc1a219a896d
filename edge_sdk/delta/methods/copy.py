"""``copy``: a range of a source file as it is. Source: FORMAT.md, "copy"."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.delta.frames import Bytes
from edge_sdk.delta.methods.contract import DecodeContext
from edge_sdk.delta.varint import Cursor, varints

PIECE_BYTES = 256 << 10


class Copy:
    number = 1
    name = "copy"
    spans_chunks = True
    takes_code = False

    def memory_bytes(self, length: int, body_bytes: int) -> int:
        return body_bytes + min(length, PIECE_BYTES)

    def encode(self, file: int, offset: int) -> bytes:
        """The body behind the place."""
        return varints(file, offset)

    def decode(
        self, body: Cursor, length: int, skip: int, context: DecodeContext
    ) -> Iterator[Bytes]:
        file, offset = body.varint(), body.varint()
        body.end()
        context.check_range(file, offset, length)
        for start in range(skip, length, PIECE_BYTES):
            yield context.read(file, offset + start, min(PIECE_BYTES, length - start))
