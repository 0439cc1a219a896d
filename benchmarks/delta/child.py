"""The child of ``benchmarks.delta.ours``: does one job when told to, and says what it took."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from edge_sdk import delta

_READ_BYTES = 256 << 10


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


def main() -> None:
    job, old, new, made = sys.argv[1], *map(Path, sys.argv[2:5])
    print("idle", flush=True)
    sys.stdin.readline()
    wall, cpu = time.perf_counter(), time.process_time()
    if job == "encode":
        with made.open("wb") as out:
            delta.encode(old, new, out)
    elif job == "apply":
        delta.apply(old, made, new)
    elif job == "decode":
        _decode(old, new, made)
    else:
        sys.exit(f"no job {job!r}")
    seconds = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
