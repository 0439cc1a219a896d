"""The child of ``benchmarks.memory``: imports, says so, waits, does one job, ends."""

from __future__ import annotations

import sys
from pathlib import Path

from edge_sdk import delta


def main() -> None:
    job, first, second, third = sys.argv[1], *map(Path, sys.argv[2:5])
    print("idle", flush=True)
    sys.stdin.readline()
    if job == "encode":
        with third.open("wb") as out:
            delta.encode(first, second, out)
    elif job == "apply":
        delta.apply(first, second, third)
    else:
        sys.exit(f"no job {job!r}")


if __name__ == "__main__":
    main()
