"""zstd frames, after "Frames" of FORMAT.md."""

from __future__ import annotations

import zstandard

from tests.independent_decoder.reading import MIB, Reader, need

MAGIC = b"\x28\xb5\x2f\xfd"


def unpack(frame: bytes, length: int, history: bytes = b"") -> bytes:
    """What one frame holds, with ``history`` decoded just before; its header is compared first."""
    check_header(Reader(frame), length)
    prefix = None
    if history:
        kind = zstandard.DICT_TYPE_RAWCONTENT
        prefix = zstandard.ZstdCompressionDict(history, dict_type=kind)
    decoder = zstandard.ZstdDecompressor(dict_data=prefix).decompressobj()
    try:
        made = decoder.decompress(frame)
    except zstandard.ZstdError as error:
        raise ValueError(f"a frame: {error}") from error
    need(decoder.eof and not decoder.unused_data and len(made) == length, "a frame")
    return made


def check_header(reader: Reader, length: int) -> None:
    """The frame's header (RFC 8878, 3.1.1.1)."""
    need(reader.take(4) == MAGIC, "magic number of a frame")
    descriptor = reader.take(1)[0]
    single = bool(descriptor & 32)
    need(descriptor & 8 == 0, "the reserved bit of a frame")
    need(descriptor & 4 == 0, "checksum of a frame")
    window = length
    if not single:
        byte = reader.take(1)[0]
        base = 1 << (10 + (byte >> 3))
        window = base + base // 8 * (byte & 7)
    dictionary_id = reader.take((0, 1, 2, 4)[descriptor & 3])
    need(not any(dictionary_id), "a frame names a dictionary")
    size_bytes = (int(single), 2, 4, 8)[descriptor >> 6]
    need(size_bytes > 0, "a frame without its content size")
    size = int.from_bytes(reader.take(size_bytes), "little") + (256 if size_bytes == 2 else 0)
    need(size == length, "content size of a frame")
    need(window <= 2 * MIB, "window of a frame")
