"""The child of ``benchmarks.delta.ours``: does one job when told to, and says what it took."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from pathlib import Path

from edge_sdk import delta

_READ_BYTES = 256 << 10

Seconds = dict[str, float]


def _decode(source: Path, target: Path, made: Path) -> None:
    """What ``apply`` does without proving source or target, and without writing: what it reads of
    the target comes from one that was made before."""
    before, after = os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)
    try:
        decoder = delta.Decoder(
            read_source=lambda _file, offset, length: os.pread(before, length, offset),
            read_target=lambda _file, offset, length: os.pread(after, length, offset),
            write=lambda _file, _offset, _data: None,
            memory_limit_bytes=delta.DEFAULT_MEMORY_LIMIT_BYTES,
        )
        with made.open("rb") as stream:
            while data := stream.read(_READ_BYTES):
                decoder.feed(data)
        decoder.finish()
    finally:
        os.close(before)
        os.close(after)


def _from_memory(source: Path, target: Path, made: Path) -> Seconds:
    """Bytes to bytes, nothing proved: what is timed beside a peer that is a library."""
    before, delta_bytes = memoryview(source.read_bytes()), made.read_bytes()
    length = target.stat().st_size
    begun = _now()
    after = memoryview(bytearray(length))

    def write(_file: int, offset: int, data: memoryview) -> None:
        after[offset : offset + len(data)] = data

    decoder = delta.Decoder(
        read_source=lambda _file, offset, length: bytes(before[offset : offset + length]),
        read_target=lambda _file, offset, length: bytes(after[offset : offset + length]),
        write=write,
        memory_limit_bytes=delta.DEFAULT_MEMORY_LIMIT_BYTES,
    )
    decoder.feed(delta_bytes)
    decoder.finish()
    seconds = _since(begun)
    if after != target.read_bytes():
        sys.exit("the target does not come out")
    return seconds


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begun: tuple[float, float]) -> Seconds:
    wall, cpu = _now()
    return {"wall_s": wall - begun[0], "cpu_s": cpu - begun[1]}


def main() -> None:
    job, old, new, made = sys.argv[1], *map(Path, sys.argv[2:5])
    if job == "encode":  # it imports the rest when it begins
        for name in ("alignment", "choose", "cutting", "patches"):
            importlib.import_module(f"edge_sdk.delta.{name}")
    print("idle", flush=True)
    sys.stdin.readline()
    begun = _now()
    if job == "encode":
        with made.open("wb") as out:
            delta.encode(old, new, out)
    elif job == "apply":
        delta.apply(old, made, new)
    elif job == "decode":
        _decode(old, new, made)
    elif job != "memory":
        sys.exit(f"no job {job!r}")
    seconds = _from_memory(old, new, made) if job == "memory" else _since(begun)
    print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
