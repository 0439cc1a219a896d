"""``dictionary``: compressed with a window of a source before it. Source: FORMAT.md,
"dictionary". For graphs, metadata and code, where differences are insertions."""

from __future__ import annotations

from collections.abc import Iterator

from edge_sdk.base import DeltaError
from edge_sdk.delta.frames import DICTIONARY_BYTES_MAX, Bytes, Packer
from edge_sdk.delta.methods.contract import DecodeContext
from edge_sdk.delta.prediction import SourceRange
from edge_sdk.delta.varint import Cursor, varints


class Dictionary:
    number = 3
    name = "dictionary"
    spans_chunks = False
    takes_code = False

    def memory_bytes(self, length: int, body_bytes: int) -> int:
        return body_bytes + length + 4 * DICTIONARY_BYTES_MAX

    def encode(
        self, data: Bytes, window: SourceRange, content: bytes, packer: Packer, level: int
    ) -> bytes:
        """The body behind the place; ``content`` is what ``window`` holds."""
        frame = packer.pack_with(content, data, level)
        return varints(window.file, window.offset, window.length) + frame

    def decode(
        self,
        body: Cursor,
        length: int,
        skip: int,
        context: DecodeContext,
    ) -> Iterator[Bytes]:
        file, offset, window_bytes = body.varint(), body.varint(), body.varint()
        if not 1 <= window_bytes <= DICTIONARY_BYTES_MAX:
            raise DeltaError(f"a record wants a dictionary of {window_bytes} bytes")
        content = context.read(file, offset, window_bytes)
        yield context.unpacker.unpack_with(content, body.rest(), length)
