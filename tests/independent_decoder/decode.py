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

from tests.independent_decoder.numbers import Code, code_table, stream

Tables = dict[int, bytes | Code]


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
    tables: Tables = {}
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
            tables[slot] = prediction(body, sources) if slot < 8 else code_table(body.rest())
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


def copy(body: Bytes, length: int, sources: Sequence[bytes], _tables: Tables) -> bytes:
    file, offset = body.varint(), body.varint()
    return sources[file][offset : offset + length]


def literal(body: Bytes, _length: int, _sources: Sequence[bytes], _tables: Tables) -> bytes:
    return unpack(body.rest())


def dictionary(body: Bytes, _length: int, sources: Sequence[bytes], _tables: Tables) -> bytes:
    file, offset, window = body.varint(), body.varint(), body.varint()
    return unpack(body.rest(), sources[file][offset : offset + window])


def residual(body: Bytes, length: int, _sources: Sequence[bytes], tables: Tables) -> bytes:
    slot, position = body.varint(), body.varint()
    predicted = tables[slot]
    assert isinstance(predicted, bytes)
    return numbers(body, length, tables, predicted[position : position + length])


def planes(body: Bytes, length: int, _sources: Sequence[bytes], tables: Tables) -> bytes:
    return numbers(body, length, tables, None)


def numbers(body: Bytes, length: int, tables: Tables, predicted: bytes | None) -> bytes:
    code = tables[body.varint()]
    assert isinstance(code, Code)
    assert (code.model == 2) == (predicted is None)
    phase, lanes = body.varint(), 1 << body.varint()
    assert lanes in (1, 8, 32)
    size = code.width // 8
    assert phase < size
    count = (length - phase) // size
    end = phase + count * size
    edges = body.take(length - count * size)
    source = None
    if predicted is not None:
        source = [
            int.from_bytes(predicted[at : at + size], "little") for at in range(phase, end, size)
        ]
    made = stream(code, source, count, lanes, body)
    middle = b"".join(one.to_bytes(size, "little") for one in made)
    return edges[:phase] + middle + edges[phase:]


METHODS = {1: copy, 2: literal, 3: dictionary, 4: residual, 5: planes}
