"""zstd frames, bounded. Source: FORMAT.md, "Frames".

``zstandard`` believes whatever content size a frame claims, so the frame's header is read
first and compared with what the record allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import zstandard

from edge_sdk.base import CHUNK_BYTES, DeltaError

Bytes = bytes | bytearray | memoryview

_WINDOW_BYTES_MAX = 2 * CHUNK_BYTES
_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"


class Effort(Enum):
    """How much time a frame is worth. Part of what makes a delta's bytes, not of the format."""

    QUICK = "quick"
    DENSE = "dense"


_LEVELS = {Effort.QUICK: 5, Effort.DENSE: 22}


class Packer:
    """Compresses; keeps its compressors, since making one costs more than a frame."""

    def __init__(self) -> None:
        self._compressors = {effort: _compressor(effort) for effort in Effort}

    def pack(self, data: Bytes, effort: Effort) -> bytes:
        """One frame."""
        packed: bytes = self._compressors[effort].compress(data)
        return packed

    def pack_parts(self, parts: Sequence[Bytes], effort: Effort, dictionary: bytes) -> bytes:
        """One frame of all parts, each of which has statistics of its own; made with
        ``dictionary`` as if it stood before them."""
        compressor = self._compressors[effort]
        if dictionary:
            compressor = _compressor(effort, dict_data=_raw_content(dictionary))
        frame = compressor.compressobj(size=sum(map(len, parts)))
        *others, last = parts
        out = b""
        for part in others:
            out += frame.compress(part) + frame.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        packed: bytes = out + frame.compress(last) + frame.flush()
        return packed


class Unpacker:
    """Decompresses; never more than the record claims."""

    def __init__(self) -> None:
        self._plain = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)

    def unpack(self, frame: Bytes, length: int, dictionary: bytes = b"") -> bytes:
        """Exactly ``length`` bytes, with ``dictionary`` as if it stood before them.

        Raises: DeltaError.
        """
        _check_frame(frame, length)
        if not dictionary:
            return _decompress(self._plain, frame, length)
        decompressor = zstandard.ZstdDecompressor(
            dict_data=_raw_content(dictionary), max_window_size=_WINDOW_BYTES_MAX
        )
        return _decompress(decompressor, frame, length)


def _compressor(effort: Effort, **options: Any) -> Any:
    return zstandard.ZstdCompressor(level=_LEVELS[effort], write_dict_id=False, **options)


def _raw_content(data: bytes) -> Any:
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _check_frame(frame: Bytes, length: int) -> None:
    """Refuses a frame that is not the one kind which is allowed here."""
    if bytes(frame[:4]) != _FRAME_MAGIC:  # a skippable frame has another magic number
        raise DeltaError("a payload is not a zstd frame")
    try:
        claims = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise DeltaError(f"a payload's zstd frame cannot be read: {error}") from None
    if claims.content_size != length:
        raise DeltaError(f"a payload's zstd frame does not claim the {length} bytes wanted")
    if claims.window_size > _WINDOW_BYTES_MAX:
        raise DeltaError(f"a payload's zstd frame wants a window of {claims.window_size} bytes")
    if claims.dict_id or claims.has_checksum:
        raise DeltaError("a payload's zstd frame has flags that are not allowed here")


def _decompress(decompressor: Any, frame: Bytes, length: int) -> bytes:
    try:
        data: bytes = decompressor.decompress(
            frame, max_output_size=length, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise DeltaError(f"a payload's zstd frame cannot be unpacked: {error}") from None
    if len(data) != length:
        raise DeltaError(f"a payload's zstd frame holds {len(data)} bytes, not {length}")
    return data
