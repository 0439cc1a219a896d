"""``literal``: the bytes themselves, compressed. Source: FORMAT.md, "literal"."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.delta.frames import Bytes, Effort, Packer
from edge_sdk.delta.methods.contract import DecodeContext
from edge_sdk.delta.varint import Cursor


class Literal:
    number = 2
    name = "literal"
    spans_chunks = False
    takes_code = False

    def memory_bytes(self, length: int, body_bytes: int) -> int:
        return body_bytes + length

    def encode(self, data: Bytes, packer: Packer, effort: Effort) -> bytes:
        """The body behind the place."""
        return packer.pack(data, effort)

    def decode(
        self,
        body: Cursor,
        length: int,
        skip: int,
        context: DecodeContext,
    ) -> Iterator[Bytes]:
        yield context.unpacker.unpack(body.rest(), length)
