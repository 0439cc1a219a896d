"""Processes that the benchmark starts and watches: children, their cores, CPU and memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_END_S = 15.0
_SCHED_CLOCK = 2  # CPUCLOCK_SCHED of a process, in the kernel's numbering of clocks


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without settings of whoever runs the benchmark."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_")}
    return {
        **own,
        "ORT_DISABLE_TELEMETRY": "1",
        "GRPC_VERBOSITY": "ERROR",
        "PYTHONUNBUFFERED": "1",
        **(extra or {}),
    }


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.runtime.{name}", *arguments]


@contextlib.contextmanager
def child(command: list[str], **extra: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that ends with its standard input, and the line that it says when it is ready.

    Raises: RuntimeError where it ends instead.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(extra),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{' '.join(command[1:4])} ended with {process.wait(_END_S)}")
        yield process, line
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()
        end(process)
        process.stdout.close()


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Asks it to end, and kills it where it does not."""
    process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def kill_left(pids: Sequence[int]) -> None:
    """What a server that has ended left behind of its own processes."""
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def tree(pid: int) -> list[int]:
    """A process and all below it that live."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += [int(text) for text in (thread / "children").read_text().split()]
    return found


def cpu_s(pid: int) -> float:
    """CPU time that a process and all below it have taken, to the nanosecond: the clock of each
    process, which /proc/PID/stat shows in steps of 10 ms."""
    taken = 0.0
    for one in tree(pid):
        with contextlib.suppress(OSError):
            taken += time.clock_gettime((~one << 3) | _SCHED_CLOCK)
    return taken


def all_cores() -> set[int]:
    return set(range(os.cpu_count() or 1))


def places() -> dict[str, tuple[set[int], set[int]]]:
    """Cores of the client and of the servers, by the name of the place."""
    first, *others = sorted(all_cores())
    found = {"same-core": ({first}, {first}), "free": (all_cores(), all_cores())}
    if others:
        found["other-core"] = ({first}, {others[0]})
    return found


def pin(pid: int, cores: set[int]) -> None:
    """All threads of a process and of all below it; those that start later follow."""
    for one in tree(pid):
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(int(thread.name), cores)


def status_bytes(pid: int, field: str) -> int:
    """A size of /proc/PID/status such as RssAnon."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise KeyError(field)


def sleep_until(moment_s: float) -> None:
    """On the clock of ``time.monotonic``."""
    time.sleep(max(0.0, moment_s - time.monotonic()))


def asked(process: subprocess.Popen[str], question: str) -> dict[str, Any]:
    """The JSON line that a child answers to a line. Raises: RuntimeError where it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(question + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait(_END_S)}")
    answer: dict[str, Any] = json.loads(line)
    return answer
