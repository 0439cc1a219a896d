"""Our own size, time and memory on a pair: each job in a fresh process that is watched."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.delta.pairs import Pair, sha256
from benchmarks.entropy import model_bound_bytes
from benchmarks.memory import rss_anon
from edge_sdk import delta
from edge_sdk.base import EdgeError
from edge_sdk.delta.coder import KERNEL

ROOT = Path(__file__).parents[2]
_SAMPLE_EVERY_S = 0.002
_JOB_LIMIT_S = 1500
_SHOWS = {"cli.py", "explain.py", "inspect.py"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run: seconds in the process, and peak RssAnon above what it had when idle."""

    wall_s: float
    cpu_s: float
    peak_bytes: int

    def facts(self, name: str) -> dict[str, Any]:
        return {
            f"{name}_wall_s": self.wall_s,
            f"{name}_cpu_s": self.cpu_s,
            f"{name}_peak_bytes": self.peak_bytes,
        }


def run_job(name: str, old: Path, new: Path, made: Path) -> Job:
    """``encode``, ``apply``, ``decode`` (without hashing, writing nothing), or ``memory`` (the
    same from bytes to bytes, which are compared with ``new`` when the clock has stopped)."""
    command = [sys.executable, "-m", "benchmarks.delta.child", name]
    with subprocess.Popen(
        [*command, str(old), str(new), str(made)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        timer = threading.Timer(_JOB_LIMIT_S, child.kill)
        timer.start()
        try:
            if child.stdout.readline() != "idle\n":
                raise RuntimeError(f"the child that should {name} did not start")
            idle_bytes = rss_anon(child.pid)
            peaks = [idle_bytes]
            done = threading.Event()
            watcher = threading.Thread(target=_watch, args=(child.pid, peaks, done))
            watcher.start()
            child.stdin.write("go\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            done.set()
            watcher.join()
        finally:
            timer.cancel()
            child.kill()
    if not answer:
        raise RuntimeError(f"{name} of {new} ended with {child.returncode}")
    return Job(**json.loads(answer), peak_bytes=max(peaks) - idle_bytes)


def _watch(pid: int, peaks: list[int], done: threading.Event) -> None:
    while not done.is_set():
        peaks.append(rss_anon(pid))
        time.sleep(_SAMPLE_EVERY_S)


def measure(pair: Pair, *, bound: bool = True) -> dict[str, Any]:
    """Size, times, memory and the bound; fails where the delta does not give the target back."""
    with tempfile.TemporaryDirectory(prefix="edge-bench-", dir=pair.new.parent) as folder:
        made, rebuilt = Path(folder) / "delta", Path(folder) / "rebuilt"
        encoded = run_job("encode", pair.old, pair.new, made)
        applied = run_job("apply", pair.old, rebuilt, made)
        decoded = run_job("decode", pair.old, rebuilt, made)
        if sha256(rebuilt) != sha256(pair.new):
            raise RuntimeError(f"the delta of {pair.id} does not give back its target")
        size_bytes = made.stat().st_size
        declared_bytes = delta.inspect(made).memory_bytes
    return {
        "bytes": size_bytes,
        "memory_declared_bytes": declared_bytes,
        **encoded.facts("encode"),
        **applied.facts("apply"),
        **decoded.facts("decode"),
        "bound_bytes": bound_bytes(pair) if bound else None,
    }


def bound_bytes(pair: Pair) -> int | None:
    """The entropy bound where our readers know the tensors of both files, else None."""
    try:
        return model_bound_bytes(pair.old, pair.new)
    except (EdgeError, ValueError):
        return None


def engine_version() -> str:
    """A hash of the engine, of its readers and of which kernel runs, without what only shows
    deltas: as long as it stands, results are kept."""
    digest = hashlib.sha256(KERNEL.encode())
    for room in ("csrc", "edge_sdk/delta", "edge_sdk/formats", "edge_sdk/base"):
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in {".py", ".c", ".h"} and path.name not in _SHOWS:
                digest.update(f"{path.relative_to(ROOT)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
