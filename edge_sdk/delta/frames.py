"""zstd frames, bounded. Source: FORMAT.md, "Frames".

``zstandard`` believes whatever content size a frame claims, so the frame's header is read
first and compared with what the record allows.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import zstandard

from edge_sdk.base import CHUNK_BYTES, DeltaError

Bytes = bytes | bytearray | memoryview

DICTIONARY_BYTES_MAX = CHUNK_BYTES
_WINDOW_BYTES_MAX = CHUNK_BYTES
_DICTIONARY_WINDOW_BYTES_MAX = 2 * CHUNK_BYTES
_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"


class Effort(Enum):
    """How much time a frame is worth. Part of what makes a delta's bytes, not of the format."""

    QUICK = "quick"
    DENSE = "dense"


class Packer:
    """Compresses; keeps its compressors, since making one costs more than a frame."""

    def __init__(self) -> None:
        self._compressors: dict[Effort, Any] = {}

    def pack(self, data: Bytes, effort: Effort) -> bytes:
        """One frame without checksum."""
        if effort not in self._compressors:
            self._compressors[effort] = _compressor(effort)
        packed: bytes = self._compressors[effort].compress(data)
        return packed

    def pack_with(self, dictionary: bytes, data: Bytes, level: int) -> bytes:
        """One frame with checksum, made with ``dictionary`` as if it stood before ``data``."""
        packed: bytes = zstandard.ZstdCompressor(
            level=level,
            dict_data=_raw_content(dictionary),
            write_checksum=True,
            write_dict_id=False,
        ).compress(data)
        return packed


class Unpacker:
    """Decompresses; never more than the record claims."""

    def __init__(self) -> None:
        self._plain = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)

    def unpack(self, frame: Bytes, length: int) -> bytes:
        """Exactly ``length`` bytes. Raises: DeltaError."""
        _check_frame(frame, length, checksum=False, window_bytes_max=_WINDOW_BYTES_MAX)
        return _decompress(self._plain, frame, length)

    def unpack_with(self, dictionary: bytes, frame: Bytes, length: int) -> bytes:
        """Exactly ``length`` bytes. Raises: DeltaError."""
        _check_frame(frame, length, checksum=True, window_bytes_max=_DICTIONARY_WINDOW_BYTES_MAX)
        decompressor = zstandard.ZstdDecompressor(
            dict_data=_raw_content(dictionary), max_window_size=_DICTIONARY_WINDOW_BYTES_MAX
        )
        return _decompress(decompressor, frame, length)


def _compressor(effort: Effort) -> Any:
    levels = {Effort.QUICK: 3, Effort.DENSE: 19}
    return zstandard.ZstdCompressor(level=levels[effort], write_dict_id=False)


def _raw_content(data: bytes) -> Any:
    return zstandard.ZstdCompressionDict(data, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _check_frame(frame: Bytes, length: int, *, checksum: bool, window_bytes_max: int) -> None:
    """Refuses a frame that is not the one kind which is allowed here."""
    if bytes(frame[:4]) != _FRAME_MAGIC:  # a skippable frame has another magic number
        raise DeltaError("a payload is not a zstd frame")
    try:
        claims = zstandard.get_frame_parameters(frame)
    except zstandard.ZstdError as error:
        raise DeltaError(f"a payload's zstd frame cannot be read: {error}") from None
    if claims.content_size != length:
        raise DeltaError(f"a payload's zstd frame does not claim the {length} bytes wanted")
    if claims.window_size > window_bytes_max:
        raise DeltaError(f"a payload's zstd frame wants a window of {claims.window_size} bytes")
    if claims.dict_id or claims.has_checksum != checksum:
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
