"""zstd frames, bounded. Source: FORMAT.md, "Frames".

``zstandard`` believes whatever content size a frame claims, so the frame's header is read
first and compared with what the record allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from itertools import pairwise
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


# Fewer bytes are hardly worth two sets of statistics; more are several blocks anyhow.
_CUT_BYTES = range(64 << 10, 128 << 10)
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
        ``dictionary`` as if it stood before them. Where effort is worth it, a first part that
        is one block is cut where that is shorter."""
        compressor = self._compressors[effort]
        if dictionary:
            compressor = _compressor(effort, dict_data=_raw_content(dictionary))
        packed = _packed(compressor, parts)
        if effort is Effort.DENSE and len(parts[0]) in _CUT_BYTES:
            first, *others = parts
            cuts: set[int] = set()
            while True:
                tried = [cuts | {eighth} for eighth in range(1, 8) if eighth not in cuts]
                found = [(_packed(compressor, [*_cut(first, one), *others]), one) for one in tried]
                shorter, one = min(found, key=lambda it: len(it[0]), default=(packed, cuts))
                if len(shorter) >= len(packed):
                    break
                packed, cuts = shorter, one
        return packed


def _cut(data: Bytes, eighths: set[int]) -> list[Bytes]:
    """The parts between some eighths of it."""
    ends = [len(data) * one // 8 for one in (0, *sorted(eighths), 8)]
    return [data[start:end] for start, end in pairwise(ends)]


def _packed(compressor: Any, parts: Sequence[Bytes]) -> bytes:
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
