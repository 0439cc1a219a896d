"""A second decoder, written from edge_sdk/delta/FORMAT.md alone, in plain Python.

It imports nothing of this project, does one step after the other on bytes in memory, and is
slow on purpose: whoever reads it beside the text sees each sentence once. It checks what a
decoder needs in order to be right, not everything that a careful one refuses.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import zstandard

CHUNK = 1 << 20
WIDTHS = (8, 16, 32, 64, 16, 16, 32, 64)
MANTISSAS = (None, None, None, None, 10, 7, 23, 52)


class Bytes:
    """Reads the types of "Numbers"."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def fixed(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def rest(self) -> bytes:
        return self.take(len(self.data) - self.at)


@dataclass
class File:
    path: str
    size: int
    digest: bytes


def files(data: Bytes) -> list[File]:
    return [
        File(data.take(data.varint()).decode(), data.varint(), data.take(32))
        for _ in range(data.varint())
    ]


def decode(delta: bytes, sources: Sequence[bytes]) -> dict[str, bytes]:
    """The target files by path."""
    data = Bytes(delta)
    assert data.take(8) == bytes.fromhex("8B454447450D0A1A")
    assert data.fixed(2) == 0
    header_bytes, index_bytes = data.fixed(4), data.fixed(4)
    header = Bytes(data.take(header_bytes))
    index = Bytes(data.take(index_bytes))
    before_check = delta[: data.at]
    assert data.fixed(4) == zlib.crc32(before_check)
    _flags, _memory = header.varint(), header.varint()
    methods = [header.varint() for _ in range(header.varint())]
    source_files = [file for _ in range(header.varint()) for file in files(header)]
    target_files = files(header)
    assert len(source_files) == len(sources)
    assert index.varint() == len(delta) - data.at
    made = [bytearray() for _ in target_files]
    tables: dict[int, bytes] = {}
    records = 0
    while True:
        start = data.at
        kind = data.fixed(1)
        body = Bytes(data.take(data.varint()))
        sealed = delta[start : data.at]
        assert data.fixed(4) == zlib.crc32(sealed)
        if kind == 0:
            assert (body.varint(), body.varint()) == (sum(map(len, made)), records)
            break
        records += 1
        if kind == 128:
            slot = body.varint()
            tables[slot] = prediction(body, sources)
            continue
        assert kind in methods
        file, offset, length = body.varint(), body.varint(), body.varint()
        assert offset == len(made[file])
        new = METHODS[kind](body, length, sources, tables)
        assert len(new) == length
        made[file] += new
    assert data.rest() == bytes.fromhex("1A454E44E50D0A8B")
    assert [len(new) for new in made] == [file.size for file in target_files]
    return {file.path: bytes(new) for file, new in zip(target_files, made, strict=True)}


def prediction(body: Bytes, sources: Sequence[bytes]) -> bytes:
    out = b""
    for _ in range(body.varint()):
        file, offset, run = body.varint(), body.varint(), body.varint()
        assert body.varint() == 0  # no dimensions
        out += sources[file][offset : offset + run]
    for _ in ("layout map", "value map"):
        assert (body.varint(), body.varint()) == (0, 0)
    return out


def unpack(frame: bytes, dictionary: bytes | None = None) -> bytes:
    if dictionary is None:
        return zstandard.ZstdDecompressor().decompress(frame)
    prefix = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdDecompressor(dict_data=prefix).decompress(frame)


def copy(body: Bytes, length: int, sources: Sequence[bytes], _tables: dict[int, bytes]) -> bytes:
    file, offset = body.varint(), body.varint()
    return sources[file][offset : offset + length]


def literal(
    body: Bytes, _length: int, _sources: Sequence[bytes], _tables: dict[int, bytes]
) -> bytes:
    return unpack(body.rest())


def dictionary(
    body: Bytes, _length: int, sources: Sequence[bytes], _tables: dict[int, bytes]
) -> bytes:
    file, offset, window = body.varint(), body.varint(), body.varint()
    return unpack(body.rest(), sources[file][offset : offset + window])


def residual(
    body: Bytes, length: int, _sources: Sequence[bytes], tables: dict[int, bytes]
) -> bytes:
    slot, position, kind, phase = (body.varint() for _ in range(4))
    predicted = tables[slot][position : position + length]
    width, mantissa = WIDTHS[kind], MANTISSAS[kind]
    size = width // 8
    count = (length - phase) // size
    end = phase + count * size
    if body.varint() == 0:
        content = Bytes(unpack(body.rest()))
        numbers = planes(content, count, size)
    else:
        listed, gap_bytes = body.varint(), body.varint()
        content = Bytes(unpack(body.rest()))
        gaps = content.take(gap_bytes)
        numbers = spread(gaps, planes(content, listed, size), count)
    edges = content.rest()
    elements = [
        int.from_bytes(predicted[at : at + size], "little") for at in range(phase, end, size)
    ]
    order = list(range(count))
    if mantissa is not None:
        exponents = (1 << (width - 1 - mantissa)) - 1
        order.sort(key=lambda number: elements[number] >> mantissa & exponents)  # a stable sort
    out = [0] * count
    for number, z in zip(order, numbers, strict=True):
        out[number] = element(elements[number], z, width, is_float=mantissa is not None)
    middle = b"".join(value.to_bytes(size, "little") for value in out)
    outside = predicted[:phase] + predicted[end:]
    added = bytes((old + new) % 256 for old, new in zip(outside, edges, strict=True))
    return added[:phase] + middle + added[phase:]


def planes(content: Bytes, count: int, size: int) -> list[int]:
    found = [content.take(count) for _ in range(size)]
    return [int.from_bytes(bytes(plane[n] for plane in found), "big") for n in range(count)]


def spread(gaps: bytes, listed: list[int], count: int) -> list[int]:
    numbers = [0] * count
    position = -1
    values = iter(listed)
    gap = 0
    for byte in gaps:
        gap += byte
        if byte < 255:
            position += gap + 1
            numbers[position] = next(values) + 1
            gap = 0
    assert gap == 0
    assert next(values, None) is None
    return numbers


def element(source: int, z: int, width: int, *, is_float: bool) -> int:
    top = 1 << (width - 1)
    every = (1 << width) - 1
    difference = z // 2 if z % 2 == 0 else -(z // 2 + 1)
    if not is_float:
        return (source + difference) & every
    if source & top:
        difference = -difference
    place = source ^ every if source & top else source | top
    place = (place + difference) & every
    return place & ~top if place & top else place ^ every


METHODS = {1: copy, 2: literal, 3: dictionary, 4: residual}
