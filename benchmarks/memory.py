"""How much memory encoding and applying take on a model of 2 GiB, and how fast they are.

``RssAnon`` is what counts: memory that the system cannot take back by dropping file pages.
The work runs in a child that first does nothing (its idle figure), then the one job; the
parent reads ``/proc/<pid>/status`` every few milliseconds.
"""

from __future__ import annotations

import json
import mmap
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.rows import Row, row

MODEL_BYTES = 2 << 30
_TENSOR_BYTES = 64 << 20
_SAMPLE_EVERY_S = 0.003
_TOUCHED_PAGES = 2048  # 8 MiB: more than one fault, with huge pages too
_APPLY_LIMIT_BYTES = 64 << 20
_MB = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One run of a job in a process of its own."""

    idle_bytes: int
    peak_bytes: int
    seconds: float

    @property
    def above_idle_bytes(self) -> int:
        return self.peak_bytes - self.idle_bytes


def write_synthetic_pair(folder: Path, *, model_bytes: int = MODEL_BYTES) -> tuple[Path, Path]:
    """Two safetensors files of float32: normal weights, and each moved by about a thousandth.

    Simulated, not trained: only size and kind of the change matter here. A tenth of the
    tensors is unchanged, so that copies are in it as well.
    """
    source, target = (
        folder / "synthetic-source.safetensors",
        folder / "synthetic-target.safetensors",
    )
    count = max(1, model_bytes // _TENSOR_BYTES)
    weights = model_bytes // count // 4
    header = {
        f"layer{number:04d}.weight": {
            "dtype": "F32",
            "shape": [weights],
            "data_offsets": [number * weights * 4, (number + 1) * weights * 4],
        }
        for number in range(count)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(21)
    with source.open("wb") as old, target.open("wb") as new:
        for stream in (old, new):
            stream.write(len(text).to_bytes(8, "little") + text)
        for number in range(count):
            values = random.standard_normal(weights, dtype=np.float32) * np.float32(0.02)
            old.write(values.data)
            if number % 10 != 9:
                step = random.standard_normal(weights, dtype=np.float32)
                values += values * step * np.float32(1e-3)
            new.write(values.data)
    return source, target


def run_job(name: str, *paths: Path) -> Job:
    """Runs ``encode SOURCE TARGET DELTA`` or ``apply SOURCE DELTA TARGET`` and watches it."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.memory_child", name, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        if child.stdout.readline() != b"idle\n":
            raise RuntimeError(f"the child that should {name} did not start")
        time.sleep(0.2)  # lets start-up garbage settle; longer changes nothing
        idle_bytes = peak_bytes = rss_anon(child.pid)
        began = time.perf_counter()
        child.stdin.write(b"go\n")
        child.stdin.flush()
        while child.poll() is None:
            peak_bytes = max(peak_bytes, rss_anon(child.pid))
            time.sleep(_SAMPLE_EVERY_S)
        seconds = time.perf_counter() - began
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    if child.returncode != 0:
        raise RuntimeError(f"{name} ended with {child.returncode}")
    return Job(idle_bytes=idle_bytes, peak_bytes=peak_bytes, seconds=seconds)


def rss_anon(pid: int) -> int:
    """0 once the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def counts_page_faults() -> bool:
    """Whether this system counts page faults; in some sandboxes the count stands at 0 for ever."""
    before = minor_page_faults()
    with mmap.mmap(-1, _TOUCHED_PAGES * mmap.PAGESIZE) as fresh:
        for page in range(_TOUCHED_PAGES):
            fresh[page * mmap.PAGESIZE] = 1
    return minor_page_faults() > before


def minor_page_faults() -> int:
    """Of this process since its start, as the system counts them."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def measure(folder: Path, *, model_bytes: int = MODEL_BYTES) -> list[Row]:
    """Rows on memory and speed; the files are removed again."""
    source, target = write_synthetic_pair(folder, model_bytes=model_bytes)
    delta, rebuilt = folder / "synthetic.delta", folder / "synthetic-rebuilt.safetensors"
    encoded = run_job("encode", source, target, delta)
    applied = run_job("apply", source, delta, rebuilt)
    size_bytes = target.stat().st_size
    what = f"a {size_bytes / (1 << 30):.2g} GiB model (synthetic, float32)"
    rows = [
        row(
            "memory.apply",
            f"peak RssAnon above idle while applying a delta to {what}",
            [applied.above_idle_bytes / (1 << 20)],
            "MiB",
            "<=",
            target=_APPLY_LIMIT_BYTES / (1 << 20),
        ),
        row(
            "memory.encode",
            f"peak RssAnon above idle while encoding a delta of {what}",
            [encoded.above_idle_bytes / (1 << 20)],
            "MiB",
            "<=",
        ),
        row(
            "speed.apply.large",
            f"applying a delta to {what}",
            [size_bytes / _MB / applied.seconds],
            "MB/s of target",
            ">=",
        ),
        row(
            "speed.encode.large",
            f"encoding a delta of {what}",
            [size_bytes / _MB / encoded.seconds],
            "MB/s of target",
            ">=",
        ),
    ]
    for path in (source, target, delta, rebuilt):
        path.unlink(missing_ok=True)
    return rows
