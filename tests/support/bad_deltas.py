"""Deltas that a decoder must refuse, by the kind of what is wrong with them: as few bytes as show it.

All are made of ``SOURCE`` and claim to make ``DATA``, which they would but for one fault.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import zstandard

from edge_sdk.base import DeltaError, Digest, EdgeError, ProofError, WrongSourceError
from edge_sdk.delta import FileRef
from edge_sdk.delta.coder.tables import CodeTable, Table, pack
from edge_sdk.delta.container import FORMAT_VERSION, MAGIC, check_of
from edge_sdk.delta.numeric import KINDS
from edge_sdk.delta.varint import varints
from tests.support.code_tables import one_table
from tests.support.deltas import Crafted, file_ref, place, prefix_of, record_spans, resealed

COPY, LITERAL, PATCH, RESIDUAL, PLANES = 1, 2, 3, 4, 5
DATA = b"abcdefgh" * 20
SOURCE = DATA[::-1] + DATA
SIZE = len(DATA)
INT8, BFLOAT16 = KINDS[0], KINDS[5]
HUGE = 2**63 - 1
# One symbol, which takes no bits: all elements are those of the source.
SAME = one_table(INT8, 0, (0,), (4096,))
STATE = struct.pack("<I", 1 << 16)
SAME_STREAM = b"\0" + STATE
IDENTITY = varints(0, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class BadDelta:
    """``point`` is a number of ``POINTS``; ``words`` are in the error's message."""

    point: int
    name: str
    words: str
    delta: bytes
    error: type[EdgeError] = DeltaError
    source: bytes = SOURCE


def bad_deltas() -> Iterator[BadDelta]:
    for number, made in enumerate(_POINTS, 1):
        for name, words, delta, *more in made():
            error, source = (*more, *(DeltaError, SOURCE)[len(more) :])
            yield BadDelta(
                point=_NUMBERS[number - 1],
                name=name,
                words=words,
                delta=delta,
                error=error,
                source=source,
            )


def copying(
    *, data: bytes = DATA, address: int = SIZE, sources: Sequence[FileRef] = (), **changes: object
) -> Crafted:
    """One copy from the source."""
    made = Crafted(
        targets=[file_ref("t", data)],
        sources=list(sources) or [file_ref("s", SOURCE)],
        **changes,  # type: ignore[arg-type]
    )
    return made.data(COPY, place(len(data)), varints(address))


def good() -> bytes:
    return copying().build()


def literal(frame: bytes, length: int = SIZE) -> bytes:
    return empty().data(LITERAL, place(length), frame).build()


def empty(**changes: object) -> Crafted:
    return Crafted(
        targets=[file_ref("t", DATA)],
        sources=[file_ref("s", SOURCE)],
        **changes,  # type: ignore[arg-type]
    )


def packed(data: bytes = DATA, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def residual(
    table: CodeTable | bytes = SAME,
    stream: bytes = SAME_STREAM,
    *,
    head: bytes = varints(0, SIZE, 8, 0, 0),
    prediction: bytes | None = None,
    mapped: bool = False,
) -> bytes:
    """A prediction of the whole source, a code table, and a stream for it."""
    body = prediction or varints(1, 0, 0, len(SOURCE), 0) + IDENTITY
    code = table if isinstance(table, bytes) else pack(table)
    made = empty(mapped=mapped).table(varints(0) + body).table(varints(8) + code)
    return made.data(RESIDUAL, place(SIZE), head + stream).build()


def with_prefix(delta: bytes, at: int, byte: int) -> bytes:
    """Another byte in the header, and a check that is right."""
    out = bytearray(delta)
    out[at] = byte
    return resealed(bytes(out))


def with_record(delta: bytes, number: int, record: bytes) -> bytes:
    """Another record, sealed, in the place of one."""
    _, start, end = list(record_spans(delta))[number]
    return delta[:start] + record + check_of(record) + delta[end:]


def _other_sources() -> Iterator[tuple[object, ...]]:
    other = SOURCE[:-1] + b"!"
    yield "one-byte", "its digest differs", good(), WrongSourceError, other
    yield "all", "its digest differs", good(), WrongSourceError, bytes(len(SOURCE))


def _other_lengths() -> Iterator[tuple[object, ...]]:
    yield "shorter", "bytes, the source", good(), WrongSourceError, SOURCE[:-1]
    yield "longer", "bytes, the source", good(), WrongSourceError, SOURCE + b"x"
    yield "empty", "bytes, the source", good(), WrongSourceError, b""


def _flipped() -> Iterator[tuple[object, ...]]:
    delta = good()
    at = len(prefix_of(delta))
    yield "header", "its check differs", delta[:25] + bytes([delta[25] ^ 4]) + delta[26:]
    yield "record", "damaged", delta[: at + 5] + bytes([delta[at + 5] ^ 1]) + delta[at + 6 :]
    yield "check", "damaged", delta[: at + 8] + bytes([delta[at + 8] ^ 1]) + delta[at + 9 :]
    yield "mark", "does not end with its mark", delta[:-1] + bytes([delta[-1] ^ 1])
    raw = bytearray(literal(packed(bytes(range(SIZE)))))
    raw[raw.index(bytes(range(SIZE)))] ^= 1
    yield "resealed-literal", "digest", resealed(bytes(raw)), ProofError
    yield "resealed-copy", "digest", copying(address=0).build(), ProofError


def _truncated() -> Iterator[tuple[object, ...]]:
    delta = good()
    yield "empty", "truncated", b""
    yield "in-preamble", "truncated", delta[:17]
    yield "in-header", "truncated", delta[:40]
    yield "before-records", "truncated", delta[: len(prefix_of(delta))]
    yield "in-record", "truncated", delta[: len(prefix_of(delta)) + 3]
    yield "in-mark", "truncated", delta[:-1]


def _trailing() -> Iterator[tuple[object, ...]]:
    yield "byte", "1 bytes follow", good() + b"\0"
    yield "delta", "bytes follow", good() * 2


def _unknown() -> Iterator[tuple[object, ...]]:
    delta = good()
    yield "magic", "no delta|not a delta", b"\x8a" + delta[1:]
    yield "version", "version", delta[:8] + b"\xff\xff" + delta[10:]
    yield "flag", "flags", with_prefix(delta, 18, 8)
    unknown = copying()
    unknown.methods = [COPY, 63]
    yield "method", "method 63", unknown.build()
    yield "unnamed-method", "does not name", copying(methods=[LITERAL]).build()
    whole = varints(1, 0, 0, len(SOURCE), 0)
    yield (
        "layout-map",
        "layout map 1",
        residual(prediction=whole + varints(1, 0, 0, 0), mapped=True),
    )
    yield "value-map", "value map 7", residual(prediction=whole + varints(0, 0, 7, 0), mapped=True)
    kinds = varints(0, 0, 1, 2, 2, 6)
    yield "number-kind", "kind", residual(prediction=whole + kinds, mapped=True)
    yield "lanes", "lanes", residual(head=varints(0, SIZE, 8, 0, 1))
    slot = empty().table(varints(16) + pack(SAME))
    yield "slot", "a table that cannot be", slot.data(COPY, place(SIZE), varints(SIZE)).build()


def _overflowing() -> Iterator[tuple[object, ...]]:
    too_large = b"\xff" * 9 + b"\x01"
    made = empty().data(COPY, place(SIZE), too_large)
    yield "number", r"2\*\*63", made.build()
    yield "copy", "no source has", copying(address=HUGE).build()
    ranges = varints(1, 0, HUGE, 1, 0) + IDENTITY
    yield "range", "no source has", residual(prediction=ranges)
    wide = varints(1, 0, 0, 1, 2, 2**40, 0, 2**40, 0) + IDENTITY
    yield "product", "impossible number", residual(prediction=wide, mapped=True)
    half = FileRef(path="a", size_bytes=2**62, digest=Digest(bytes(32)))
    sizes = empty(folder=True)
    sizes.targets = [half, replace(half, path="b")]
    sizes.end_body = b"\0"
    yield "sizes", "impossible size", sizes.build()
    yield "position", "more of a prediction", residual(head=varints(0, HUGE, 8, 0, 0))


def _out_of_range() -> Iterator[tuple[object, ...]]:
    yield "behind", "may not read yet", copying(address=len(SOURCE) - SIZE + 1).build()
    yield "before", "before the first", _patched(varints(1, 0, 0, 0), b"x", step=-1)
    yield "target", "may not read yet", copying(address=len(SOURCE)).build()
    itself = copying(address=len(SOURCE), repeats=True).build()
    yield "itself", "may not read yet", itself
    twice = empty(repeats=True).data(COPY, place(80), varints(SIZE))
    ahead = twice.data(COPY, place(80, 80), varints(len(SOURCE) + 1)).build()
    yield "ahead", "may not read yet", ahead
    yield "window", "no source has", _patched(varints(1), b"", window=len(SOURCE) + SIZE + 1)


def _patched(_operations: bytes, _new: bytes, *, step: int = 0, window: int = 0) -> bytes:
    """All bytes copied, from ``step`` bytes behind where they are expected; or one window."""
    folded = 2 * step if step >= 0 else -2 * step - 1
    windows = varints(1, 0, window) if window else varints(0)
    operations = varints(0, 0, SIZE, folded)
    body = windows + varints(len(operations), 0) + packed(operations)
    return empty().data(PATCH, place(SIZE), body).build()


def _not_tiling() -> Iterator[tuple[object, ...]]:
    where = "does not begin where"
    halves = empty().data(COPY, place(80), varints(SIZE))
    halves.data(COPY, place(80, 80), varints(SIZE + 80))
    yield "repeated", where, halves.data(COPY, place(80, 80), varints(SIZE)).build()
    gap = empty().data(COPY, place(79), varints(SIZE)).data(COPY, place(80, 80), varints(SIZE + 80))
    yield "gap", where, gap.build()
    over = (
        empty().data(COPY, place(81), varints(SIZE)).data(COPY, place(80, 80), varints(SIZE + 80))
    )
    yield "overlap", where, over.build()
    turned = empty().data(COPY, place(80, 80), varints(SIZE)).data(COPY, place(80), varints(SIZE))
    yield "turned", where, turned.build()
    yield "missing", "is not complete", empty().data(COPY, place(80), varints(SIZE)).build()
    longer = empty().data(COPY, place(SIZE + 1), varints(SIZE - 1))
    yield "too-long", "past the end|1 chunks", longer.build()
    named = copying(folder=True)
    named.targets = named.targets * 2
    yield "one-name-twice", "order of their paths|paths", named.build()


def _wrong_lengths() -> Iterator[tuple[object, ...]]:
    delta = good()
    _, start, end = next(record_spans(delta))
    record = delta[start : end - 4]
    shorter = record[:1] + bytes([record[1] - 1]) + record[2:-1]
    yield "shorter-record", "ends within|index says", with_record(delta, 0, shorter)
    longer = record[:1] + bytes([record[1] + 1]) + record[2:] + b"\0"
    yield "longer-record", "too many|index says", with_record(delta, 0, longer)
    yield "longer-body", "too many", empty().data(COPY, place(SIZE), varints(SIZE, 0)).build()
    yield "total", "other totals", copying(end_body=varints(SIZE + 1, 1)).build()
    yield "count", "other totals", copying(end_body=varints(SIZE, 2)).build()
    yield "claim", "more than one may|more bytes", _claiming(delta)
    yield "literal", "does not claim", literal(packed(DATA[:-1]))
    yield "patch", "does not make", _short_patch()


def _claiming(delta: bytes) -> bytes:
    """A record of 2 MiB less one."""
    start = len(prefix_of(delta))
    return delta[: start + 1] + b"\xff\xff\x7f" + delta[start + 2 :]


def _short_patch() -> bytes:
    operations = varints(0, 0, SIZE - 1, 2 * SIZE)
    body = varints(0, len(operations), 0) + packed(operations)
    return empty().data(PATCH, place(SIZE), body).build()


def _claims() -> Iterator[tuple[object, ...]]:
    yield "memory", "memory", copying(memory_bytes=1 << 40).build()
    yield "too-little", "more than the header says", copying(memory_bytes=100).build()
    yield "prefix", "claim", MAGIC + FORMAT_VERSION.to_bytes(2, "little") + b"\xff" * 8
    unsized = packed(write_content_size=False)
    yield "no-size", "does not claim", literal(unsized)
    summed = packed(write_checksum=True)
    yield "checksum", "not allowed", literal(summed)
    yield "frame-of-more", "does not claim", literal(packed(bytes(8 << 20)))
    honest = packed(bytes(1 << 20))
    size = (1 << 20).to_bytes(4, "little")
    lying = honest.replace(size, (SIZE + 256).to_bytes(4, "little"), 1)
    yield "lying-frame", "frame", literal(lying)
    wide = zstandard.ZstdCompressionParameters(window_log=23, strategy=1)
    yield "window", "window|claim", literal(packed(bytes(9 << 20), compression_params=wide))
    yield "skippable", "no|not a zstd", literal(b"\x50\x2a\x4d\x18\0\0\0\0" + packed())


GOOD_TABLE = replace(
    one_table(BFLOAT16, 0, (0, 3, 31), (4002, 88, 6)), bounds=(3, 200), cells=(0, 0, 0)
)


def _wrong_tables() -> Iterator[tuple[object, ...]]:
    every = Table(shift=0, symbols=(0, 1), frequencies=(4095, 1))
    two = replace(
        one_table(INT8, 0, (0,), (4096,)),
        levels=2,
        cells=(0, 0),
        level_tables=(every, replace(every, symbols=(0, 2))),
    )
    yield "sum", "too little", residual(one_table(INT8, 0, (0, 1, 2), (3000, 2048, 2048)))
    yield "bounds", "ascend", residual(replace(GOOD_TABLE, bounds=(200, 3)))
    yield "equal-bounds", "ascend", residual(replace(GOOD_TABLE, bounds=(3, 3)))
    yield "classes", "classes", residual(replace(SAME, bounds=(3,), cells=(0, 0)))
    yield "raw-bits", "8 bits", residual(one_table(INT8, 0, (0,), (4096,), shift=8))
    yield "escape", "symbol 55", residual(one_table(INT8, 0, (0, 55), (4095, 1)))
    yield "symbol", "symbol 57", residual(one_table(INT8, 0, (0, 57), (4095, 1)))
    yield "model", "model 1", residual(replace(SAME, model=1))
    yield "level", "level 2 of 2", residual(two)
    yield "cut", "ends within", residual(pack(GOOD_TABLE)[:-2])
    yield "code-slot", "not in force", residual(head=varints(0, SIZE, 9, 0, 0))
    yield "table-slot", "not in force", residual(head=varints(1, SIZE, 8, 0, 0))
    yield "empty-slot", "not in force", _without_tables()


def _without_tables() -> bytes:
    head = varints(0, SIZE, 8, 0, 0)
    return empty().data(RESIDUAL, place(SIZE), head + SAME_STREAM).build()


def _wrong_states() -> Iterator[tuple[object, ...]]:
    low, high = struct.pack("<I", (1 << 16) - 1), struct.pack("<I", (1 << 16) + 1)
    yield "low", "start or end|cannot be", residual(stream=b"\0" + low)
    yield "end", "start or end|do not end", residual(stream=b"\0" + high)
    yield "missing", "too early", residual(stream=b"\0" + STATE[:3])
    yield "words-left", "longer than|do not end", residual(stream=b"\1" + STATE + b"\0\0")
    yield "words-missing", "too early", residual(stream=b"\1" + STATE)
    yield "bits-left", "longer than|no element takes", residual(stream=SAME_STREAM + b"\0")
    raw = one_table(INT8, 0, (0,), (4096,), shift=1)
    yield "bits-missing", "too early", residual(raw, SAME_STREAM)


def _other_spellings() -> Iterator[tuple[object, ...]]:
    padded = empty().data(COPY, place(SIZE), b"\xa0\x81\x00")
    yield "number", "padding", padded.build()
    bits = bytearray(pack(SAME))
    bits[-1] |= 0x80
    yield "table-bits", "zero|behind", residual(bytes(bits))
    yield "table-byte", "too many|behind|zero", residual(pack(SAME) + b"\0")
    raw = one_table(BFLOAT16, 0, (0,), (4096,), shift=1)
    # 79 elements between two bytes: 79 bits, and one that says nothing.
    edges = varints(0, SIZE, 8, 1, 0) + DATA[:1] + DATA[-1:]
    yield (
        "raw-bits",
        "padding|no element takes",
        residual(raw, SAME_STREAM + bytes(9) + b"\x80", head=edges),
    )
    yield "methods", "ascending", copying(methods=[LITERAL, COPY]).build()
    yield "method-twice", "ascending", copying(methods=[COPY, COPY]).build()
    files = [file_ref("b", SOURCE), file_ref("a", b"")]
    yield "source-order", "order of their paths", copying(sources=files).build()
    again = replace(SAME, tables=SAME.tables * 2, cells=(0,))
    yield "unused-table", "no cell", residual(again)


def _paths() -> Iterator[tuple[object, ...]]:
    names = {
        "absolute": "/t",
        "parent": "../t",
        "inner-parent": "a/../../t",
        "drive": "c:t",
        "backslash": "a\\b",
        "nul": "a\0b",
        "not-nfc": "e\u0301",
        "empty": "",
        "dot": "./t",
        "format": "a\u202eb",
        "long": "a" * 256,
        "deep": "/".join("a" * 17),
    }
    for name, path in names.items():
        yield name, "impossible target|path", _with_names(path)
    yield "case", "fall together|impossible", _with_names("A", "a")
    yield "folder", "folder|impossible", _with_names("a", "a/b")
    yield "source", "impossible source", copying(sources=[file_ref("../s", SOURCE)]).build()


def _with_names(*paths: str) -> bytes:
    made = Crafted(targets=[file_ref(path, DATA) for path in paths], folder=True)
    for number in range(len(paths)):
        made.data(LITERAL, place(SIZE, file=number), packed())
    return made.build()


_POINTS = (
    *(_other_sources, _other_lengths, _flipped, _truncated, _trailing, _unknown, _overflowing),
    *(_out_of_range, _not_tiling, _wrong_lengths, _claims, _wrong_tables, _wrong_states),
    *(_other_spellings, _paths),
)
_NUMBERS = (1, 2, *range(4, 17))
