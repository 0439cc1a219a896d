"""Deltas of a few bytes that ask for memory, time or disk: refused by a process that has little."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from edge_sdk.base import Digest
from edge_sdk.delta import FileRef
from edge_sdk.delta.container import (
    FORMAT_VERSION,
    MAGIC,
    ChunkRun,
    put_header,
    put_index,
    put_prefix,
)
from edge_sdk.delta.varint import varints
from tests.support.attacked_command import assert_refused, call
from tests.support.deltas import Crafted, file_ref, place
from tests.support.processes import unmeasured

DELTA = "edge_sdk.delta.cli"
# What a decoder may use beside what the program takes with nothing to do.
MEMORY_KIB = 64 << 10
CPU_S = 20
COPY, LITERAL, PATCH = 1, 2, 3
SOURCE = bytes(range(256)) * 4096
MIB = 1 << 20


def crafted(target_bytes: int, **changes: object) -> Crafted:
    target = FileRef(path="t", size_bytes=target_bytes, digest=Digest(bytes(32)))
    return Crafted(targets=[target], sources=[file_ref("source", SOURCE)], **changes)


def frame(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


def lying_frame() -> bytes:
    """Says 100 bytes, and holds 64 MiB of zeros."""
    packed = bytearray(frame(bytes(64 * MIB)))
    honest = (64 * MIB).to_bytes(4, "little")
    at = packed.index(honest)
    packed[at : at + 4] = (100).to_bytes(4, "little")
    return bytes(packed)


def large_claims() -> bytes:
    return MAGIC + FORMAT_VERSION.to_bytes(2, "little") + b"\xff" * 8


def much_memory() -> bytes:
    return crafted(10, memory_bytes=1 << 62).data(LITERAL, place(10), frame(bytes(10))).build()


def frame_of_more_than_it_says() -> bytes:
    return crafted(100).data(LITERAL, place(100), lying_frame()).build()


def frame_of_a_gigabyte() -> bytes:
    body = frame(bytes(1 << 28))
    return crafted(1 << 28).data(LITERAL, place(1 << 28), body).build()


def frame_with_a_window_of_a_gigabyte() -> bytes:
    described = bytes([0x80, 20 << 3])  # content size of 4 bytes; a window of 2**30
    block = (100 << 3 | 0b011).to_bytes(3, "little")  # the last one, a byte repeated
    body = b"\x28\xb5\x2f\xfd" + described + (100).to_bytes(4, "little") + block + b"x"
    return crafted(100).data(LITERAL, place(100), body).build()


def patch_of_a_gigabyte() -> bytes:
    body = varints(0, 10, 1 << 30) + frame(bytes(100))
    return crafted(1 << 30).data(PATCH, place(1 << 30), body).build()


def target_larger_than_any_disk() -> bytes:
    chunks = 1 << 42
    runs = [
        ChunkRun(first_chunk=0, chunks=1, offset=0),
        ChunkRun(first_chunk=1, chunks=chunks - 1, offset=5),
    ]
    index = put_index(records_bytes=100, end_offset=90, runs=runs, tables=[])
    return crafted(chunks << 20, index=index).data(COPY, place(MIB), varints(0)).build()


def many_chunks() -> bytes:
    target = FileRef(path="t", size_bytes=1 << 62, digest=Digest(bytes(32)))
    header = put_header(folder=False, memory_bytes=MIB, methods=[1], sources=[], targets=[target])
    index = varints(1 << 62, 9, 2, 1, 0, (1 << 42) - 1, 1, 0)
    return put_prefix(header, index)


def many_tables() -> bytes:
    header = put_header(
        folder=False, memory_bytes=MIB, methods=[1], sources=[], targets=[file_ref("t", b"")]
    )
    entries = varints(0, 0, 7) + varints(7, 0, 7) * 2_000_000
    total = 14_000_100
    return put_prefix(header, varints(total, total - 20, 0, 2_000_001) + entries)


def factors_without_end() -> bytes:
    head = varints(1, 0, 0, 4, 0, 0, 0)
    parameters = varints(6, 6, 262_143, 1, 1) + bytes(5) + b"\xff" * (318 << 10)
    body = varints(0) + head + varints(5, len(parameters)) + parameters
    return crafted(1 << 20, mapped=True).table(body).data(COPY, place(MIB), varints(0)).build()


BOMBS: tuple[tuple[Callable[[], bytes], int, str], ...] = (
    (large_claims, 3, "too many"),
    (much_memory, 3, "bytes of memory"),
    (frame_of_more_than_it_says, 3, "too small"),
    (frame_of_a_gigabyte, 3, "crosses a chunk's border"),
    (frame_with_a_window_of_a_gigabyte, 3, "window of 1073741824"),
    (patch_of_a_gigabyte, 3, "more operations or new bytes"),
    (target_larger_than_any_disk, 8, "free there"),
    (many_chunks, 8, "free there"),
    (many_tables, 3, "longer than those of its target"),
    (factors_without_end, 3, "fewer bits otherwise"),
)


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a command begins with that has little more memory than an idle one."""
    idle = "import re, edge_sdk.delta.cli; print(open('/proc/self/status').read())"
    told = subprocess.run(
        [sys.executable, "-c", idle], capture_output=True, text=True, check=True, env=unmeasured()
    )
    (idle_kib,) = re.findall(r"VmPeak:\s+(\d+) kB", told.stdout)
    limit = f'ulimit -v {int(idle_kib) + MEMORY_KIB}; ulimit -t {CPU_S}; exec "$@"'
    return ["/bin/sh", "-c", limit, "sh"]


@pytest.mark.parametrize(("bomb", "code", "words"), BOMBS, ids=[one.__name__ for one, *_ in BOMBS])
def test_a_bomb_is_refused_in_little_memory_and_time(
    tmp_path: Path, limits: list[str], bomb: Callable[[], bytes], code: int, words: str
) -> None:
    """A typed error and nothing left, in a process that dies beyond 64 MiB or 20 s."""
    (tmp_path / "source").write_bytes(SOURCE)
    (tmp_path / "delta").write_bytes(bomb())
    apply = ("apply", "source", "delta", "-o", "target")
    assert_refused(call(DELTA, *apply, folder=tmp_path, prefix=limits), code, words)


def test_a_good_delta_is_applied_within_the_same_limits(tmp_path: Path, limits: list[str]) -> None:
    """The limits are those of bombs: what is honest has room."""
    (tmp_path / "source").write_bytes(SOURCE)
    target = SOURCE[::-1]
    body = frame(target)
    made = crafted(MIB).data(LITERAL, place(MIB), body)
    made.targets = [file_ref("t", target)]
    (tmp_path / "delta").write_bytes(made.build())
    apply = ("apply", "source", "delta", "-o", "target")
    ended = call(DELTA, *apply, folder=tmp_path, prefix=limits)
    assert (ended.code, ended.err.count("\n")) == (0, 1), ended.err
    assert (tmp_path / "target").read_bytes() == target
