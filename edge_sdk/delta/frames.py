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

DICTIONARY_BYTES_MAX = CHUNK_BYTES
_WINDOW_BYTES_MAX = CHUNK_BYTES
_DICTIONARY_WINDOW_BYTES_MAX = 2 * CHUNK_BYTES
_FRAME_MAGIC = b"\x28\xb5\x2f\xfd"


# Measured on 1 MiB of byte planes of numeric differences (Gaussian updates of 1e-5 to 1e-3,
# int8 to fp32), size and MB/s on one core. Long matches only (7 bytes) suit dense planes:
# within 1 % of level 19, 500 MB/s. Where little changed, the costly search with short matches
# gains 5 to 25 %, at 4 to 20 MB/s; levels 12 to 19 are larger or slower.
_PLANES = {"strategy": zstandard.STRATEGY_DFAST, "hash_log": 17, "chain_log": 16, "min_match": 7}
_SPARSE_PLANES = {
    "strategy": zstandard.STRATEGY_BTOPT,
    "hash_log": 17,
    "chain_log": 17,
    "search_log": 4,
    "min_match": 3,
    "target_length": 32,
}


class Effort(Enum):
    """How much time a frame is worth. Part of what makes a delta's bytes, not of the format."""

    QUICK = "quick"
    DENSE = "dense"
    PLANES = "planes"
    SPARSE_PLANES = "sparse planes"


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

    def pack_planes(self, parts: Sequence[bytes]) -> bytes:
        """One frame without checksum of byte planes and the like, quickly.

        A block has one set of codes, so short planes that share one cost 7 % more (measured
        on 4 to 128 KiB of fp16 differences); long ones are better off as zstd cuts them.
        """
        joined = self.pack(b"".join(parts), Effort.PLANES)
        stream = _compressor(Effort.PLANES).compressobj(size=sum(map(len, parts)))
        frame = bytearray()
        for part in parts:
            if part:
                frame += stream.compress(part) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        frame += stream.flush()
        return min(joined, bytes(frame), key=len)

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
    if effort in levels:
        return zstandard.ZstdCompressor(level=levels[effort], write_dict_id=False)
    chosen = _PLANES if effort is Effort.PLANES else _SPARSE_PLANES
    parameters = zstandard.ZstdCompressionParameters(window_log=20, write_dict_id=0, **chosen)
    return zstandard.ZstdCompressor(compression_params=parameters)


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
