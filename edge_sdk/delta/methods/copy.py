"""``copy``: bytes of the source, or of the target so far. Source: FORMAT.md, "copy"."""

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

    def encode(self, address: int) -> bytes:
        """The body behind the place."""
        return varints(address)

    def decode(
        self, body: Cursor, length: int, skip: int, context: DecodeContext
    ) -> Iterator[Bytes]:
        address = body.varint()
        body.end()
        yield from copied(context, address, length, skip)


def copied(context: DecodeContext, address: int, length: int, skip: int) -> Iterator[Bytes]:
    """A range without its first ``skip`` bytes, in pieces. Raises: DeltaError."""
    context.check_range(address, length)
    for start in range(skip, length, PIECE_BYTES):
        yield context.read(address + start, min(PIECE_BYTES, length - start))
