"""Containers that every decoder refuses, one rule each."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

import zstandard

from edge_sdk.delta.varint import varints
from tests.support.deltas import Crafted, file_ref, place, resealed

COPY, LITERAL, RESIDUAL = 1, 2, 4
DATA = b"abcdefgh" * 20
SOURCE = {"s": DATA[::-1]}
FRAME = zstandard.ZstdCompressor(write_content_size=True).compress(DATA)
# Kind int8, difference, one class, level and table, no raw bits: the one symbol is 0.
ONE_SYMBOL = bytes([0, 0, 0, 0, 8])
NOTHING_CODED = bytes([0]) + struct.pack("<I", 1 << 16)

Refusal = tuple[str, str, bytes, Mapping[str, bytes] | None]


def target() -> Crafted:
    return Crafted(targets=[file_ref("t", DATA)])


def copying() -> Crafted:
    return Crafted(targets=[file_ref("t", DATA)], sources=[file_ref("s", SOURCE["s"])])


def residual(table: bytes, stream: bytes) -> bytes:
    """A prediction of the whole source, a code table, and a stream."""
    plain = varints(1, 0, 0, len(DATA), 0, 0, 0, 0, 0)
    return (
        copying()
        .table(varints(0) + plain)
        .table(varints(8) + table)
        .data(RESIDUAL, place(len(DATA)), varints(0, 0, 8, 0, 0) + stream)
        .build()
    )


def refusals() -> Iterator[Refusal]:
    yield from ((*one, None) for one in _of_the_container())
    yield from ((*one, SOURCE) for one in _of_records())


def _of_the_container() -> Iterator[tuple[str, str, bytes]]:
    right = target().data(LITERAL, place(len(DATA)), FRAME).build()
    yield "truncated", "The end mark lacks its last byte.", right[:-1]
    yield "trailing", "A byte behind the end mark.", right + b"\0"
    yield "magic", "Another magic number.", b"\x8a" + right[1:]
    yield "version", "A later version of the format.", right[:8] + b"\xff\xff" + right[10:]
    flagged = bytearray(right)
    flagged[18] |= 0x40
    yield "flag", "A flag that means nothing yet.", resealed(bytes(flagged))
    yield (
        "check",
        "A record whose check is wrong.",
        right[:-20] + bytes([right[-20] ^ 1]) + right[-19:],
    )
    built = target().data(LITERAL, place(len(DATA)), FRAME)
    built.methods = [LITERAL, 63]
    yield "method", "A method that nobody knows.", built.build()
    built = target().data(LITERAL, place(len(DATA)), FRAME)
    built.memory_bytes = 100
    yield "memory", "Less memory declared than is needed.", built.build()
    built = target().data(LITERAL, place(len(DATA)), FRAME)
    built.end_body = varints(len(DATA), 2)
    yield "count", "An end record that counts another number of records.", built.build()
    for name, path in {"parent": "../t", "absolute": "/t", "backslash": "a\\b"}.items():
        built = Crafted(targets=[file_ref(path, DATA)], folder=True)
        delta = built.data(LITERAL, place(len(DATA)), FRAME).build()
        yield f"path-{name}", "A path that leaves the folder, or would somewhere.", delta
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(DATA)
    built = target().data(LITERAL, place(len(DATA)), frame)
    yield "frame", "A frame that does not say its size.", built.build()
    half = target().data(LITERAL, place(80), zstandard.compress(DATA[:80]))
    yield "unfinished", "A target with bytes that no record makes.", half.build()


def _of_records() -> Iterator[tuple[str, str, bytes]]:
    size = len(DATA)
    far = copying().data(COPY, place(size), varints(0, 1)).build()
    yield "copy-behind", "A copy that leaves the source.", far
    none = copying().data(COPY, place(size), varints(1, 0)).build()
    yield "copy-file", "A copy from a file that is not there.", none
    twice = copying().data(COPY, place(size), varints(0, 0)).data(COPY, place(size), varints(0, 0))
    yield "place-twice", "Two records for one place.", twice.build()
    padded = copying().data(COPY, place(size), b"\x80\x00\x00").build()
    yield "varint", "A number in more bytes than it takes.", padded
    yield (
        "table-bits",
        "A code table with a bit behind its end.",
        residual(ONE_SYMBOL[:-1] + bytes([ONE_SYMBOL[-1] | 0x80]), NOTHING_CODED),
    )
    yield "state-low", "A lane that starts below 2^16.", residual(ONE_SYMBOL, b"\0" * 5)
    state = bytes([0]) + struct.pack("<I", (1 << 16) + 1)
    yield "state-end", "A lane that does not end at 2^16.", residual(ONE_SYMBOL, state)
    yield (
        "words-left",
        "Words that no lane takes.",
        residual(ONE_SYMBOL, bytes([1]) + NOTHING_CODED[1:] + b"\0\0"),
    )
    yield "raw-left", "Raw bits that no element takes.", residual(ONE_SYMBOL, NOTHING_CODED + b"\0")
    no_table = copying().data(RESIDUAL, place(size), varints(0, 0, 8, 0, 0) + NOTHING_CODED)
    yield "slot", "A slot that holds nothing.", no_table.build()
