"""The tensor pool in the inference process: 10,000 requests of static shapes after warm-up.

Three processes: one in check mode, where a tensor outside the pool's slabs is an error; one
that counts allocations and page faults; and small ones that make the same requests with and
without a pool.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, anchor
from benchmarks.runtime import figures, models, processes, served, ways
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.targets import target
from edge_sdk.base import EdgeError

_MODEL = "bench/both"
_REQUESTS = 10_000
_WARM = 500
# CPython keeps freed tuples, up to 2,000 of each length, until its next full collection; they
# must be in the trace before what is made anew is looked for.
_WARM_TRACED = 3_000
_TRACED_ROUNDS = 2  # tracing takes twice the time, and says the same each time
_COUNTER = Path(__file__).parent / "malloc_counter.c"


def measure(folder: Path, *, rounds: int) -> list[Row]:
    path = models.write(models.large_echo(), folder / "model")
    artifact = Artifact(model=_MODEL, path=path)
    return [
        *_checked(folder / "checked", artifact, rounds=rounds),
        *_counted(folder / "counted", artifact, rounds=rounds),
        *_compared(path, rounds=rounds),
    ]


def _given() -> Any:
    return np.random.default_rng(1).random(models.SHAPES[models.LARGE], np.float32)


def _checked(folder: Path, artifact: Artifact, *, rounds: int) -> list[Row]:
    """Requests that failed are tensors outside: the check mode refuses them."""
    with (
        served.serve(folder, [artifact], variables={"EDGE_POOL_CHECK": "1"}) as server,
        ways.ours(server.address, _MODEL, _given()) as call,
    ):
        part = _REQUESTS // rounds
        outside = [float(sum(_fails(call) for _ in range(part))) for _ in range(rounds)]
    return [target("runtime.pool.outside-slabs").row(outside)]


def _fails(call: ways.Call) -> bool:
    try:
        call()
    except EdgeError:
        return True
    return False


def _counted(folder: Path, artifact: Artifact, *, rounds: int) -> list[Row]:
    told: dict[str, list[float]] = {"peak_bytes": [], "page_faults": [], "mallocs": []}
    folder.mkdir(parents=True)
    counter = _build_counter(folder)
    with (
        served.serve(
            folder,
            [artifact],
            command=processes.module("pool_child", str(folder / "told.sock")),
            variables={"LD_PRELOAD": str(counter)} if counter else {},
        ) as server,
        ways.ours(server.address, _MODEL, _given()) as call,
        _questions(folder / "told.sock") as asked,
    ):
        _repeat(call, _WARM)
        for number in range(rounds):
            before = asked("read")
            _repeat(call, _REQUESTS)
            after = asked("read")
            for name in ("page_faults", "mallocs"):
                if after[name] is not None:
                    told[name].append(after[name] - before[name])
            if number >= _TRACED_ROUNDS:
                continue
            asked("trace")
            _repeat(call, _WARM_TRACED)
            asked("trace")
            _repeat(call, _REQUESTS)
            told["peak_bytes"].append(asked("read")["peak_bytes"])
    return [
        target("runtime.pool.tracemalloc-peak").row(told["peak_bytes"]),
        target("runtime.pool.mallocs").row(told["mallocs"]),
        target("runtime.pool.page-faults").row(told["page_faults"]),
    ]


def _repeat(call: ways.Call, count: int) -> None:
    for _ in range(count):
        call()


def _build_counter(folder: Path) -> Path | None:
    """None without a C compiler: the row then says that it was not measured."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    made = folder / "malloc_counter.so"
    subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(_COUNTER)], check=True
    )
    return made


@contextlib.contextmanager
def _questions(path: Path) -> Iterator[Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
        peer.connect(str(path))

        def ask(question: str) -> dict[str, Any]:
            peer.send(question.encode())
            answer: dict[str, Any] = json.loads(peer.recv(4096))
            return answer

        yield ask


def _compared(path: Path, *, rounds: int) -> list[Row]:
    taken: dict[str, dict[str, list[float]]] = {
        how: {"median_us": [], "peak_bytes": []} for how in ("pool", "none")
    }
    with contextlib.ExitStack() as held:
        children = {}
        for how in taken:
            given = (how, str(path), str(_REQUESTS // rounds))
            command = processes.module("buffers_child", *given)
            # Without a pool the allocator's own settings are the better ones.
            variables = served.INFERENCE_ENVIRONMENT if how == "pool" else {}
            children[how], _ = held.enter_context(processes.child(command, **variables))
        for _ in range(rounds):
            for how, process in children.items():
                told = processes.asked(process, "")
                for name, values in taken[how].items():
                    values.append(float(told[name]))
    pool, none = taken["pool"], taken["none"]
    return [
        target(f"runtime.pool.{name}-over-none").row(
            figures.ratios(pool[figure], none[figure]), anchor(words, "", none[figure])
        )
        for name, figure, words in (
            ("time", "median_us", "a request without a pool, us"),
            ("peak", "peak_bytes", "RssAnon above idle without a pool, bytes"),
        )
    ]
