"""Clients in processes of their own: exec'ed, since what was forked after gRPC was used hangs."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.runtime import processes

_BEGIN_IN_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What one client saw: for each request when it was due, since the job's begin, and how
    long its answer took from then."""

    sent_s: tuple[float, ...]
    latencies_us: tuple[float, ...]
    versions: Mapping[str, int]
    failed: int
    errors: tuple[str, ...]

    @property
    def latencies_ms(self) -> list[float]:
        return [one / 1000 for one in self.latencies_us]

    def between_ms(self, begin_s: float, end_s: float) -> list[float]:
        """Latencies of what was due in that time."""
        pairs = zip(self.sent_s, self.latencies_us, strict=True)
        return [taken / 1000 for sent, taken in pairs if begin_s <= sent < end_s]


def merged(logs: Sequence[Log]) -> list[float]:
    """Milliseconds of all requests of all clients."""
    return [one for log in logs for one in log.latencies_ms]


def answered(logs: Sequence[Log]) -> int:
    """Requests with a right answer."""
    return sum(len(log.latencies_us) - log.failed for log in logs)


def way(door: str, address: str, model: str, shape: Sequence[int], **more: Any) -> dict[str, Any]:
    """``door``: lane, grpc (our client) or stock; ``more``: priority, seed."""
    return {"door": door, "address": address, "model": model, "shape": list(shape), **more}


class Client:
    """One process; ``begin`` tells it what to do, ``log`` waits for what it saw."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def begin(
        self,
        name: str,
        *,
        for_s: float,
        rate: float | None = None,
        at_s: float | None = None,
        phase_s: float = 0.0,
    ) -> float:
        """When it begins, on the clock of ``time.monotonic``."""
        begin_s = at_s if at_s is not None else time.monotonic() + _BEGIN_IN_S
        job = {"way": name, "begin_s": begin_s, "for_s": for_s, "rate": rate, "phase_s": phase_s}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return begin_s

    def stop(self) -> None:
        """Ends the job at hand; the log is of what was until then."""
        self._process.send_signal(signal.SIGUSR1)

    def log(self) -> Log:
        """Raises: RuntimeError where the client has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client ended with {self._process.wait()}")
        told = json.loads(line)
        return Log(
            sent_s=tuple(told["sent_s"]),
            latencies_us=tuple(told["latencies_us"]),
            versions=told["versions"],
            failed=told["failed"],
            errors=tuple(told["errors"]),
        )


@contextlib.contextmanager
def client(
    ways: Mapping[str, Mapping[str, Any]], expected: Mapping[str, Any] | None = None
) -> Iterator[Client]:
    """Connected and warm on all its ways. ``expected``: outputs by version."""
    lists = {version: values.tolist() for version, values in (expected or {}).items()}
    settings = json.dumps({"ways": ways, "expected": lists})
    with processes.child(processes.module("client_child", settings)) as (process, _):
        yield Client(process)


@contextlib.contextmanager
def crowd(count: int, ways: Mapping[str, Mapping[str, Any]]) -> Iterator[list[Client]]:
    """So many of the same."""
    with contextlib.ExitStack() as held:
        yield [held.enter_context(client(ways)) for _ in range(count)]


def together(clients: Sequence[Client], name: str, *, for_s: float) -> list[Log]:
    """All ask without pause from the same moment on. Raises: RuntimeError where one failed."""
    at_s = time.monotonic() + _BEGIN_IN_S
    for one in clients:
        one.begin(name, for_s=for_s, at_s=at_s)
    logs = [one.log() for one in clients]
    problems = [problem for log in logs for problem in log.errors]
    if problems:
        raise RuntimeError(f"{name}: {problems[0]}")
    return logs


@dataclass(slots=True)
class Crowded:
    """Of one way in one round: milliseconds of all requests, right answers, CPU of its server."""

    latencies_ms: list[float] = field(default_factory=list)
    answered: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def rate(self) -> float:
        return self.answered / self.seconds

    @property
    def cpu_us(self) -> float:
        """For each request."""
        return 1e6 * self.cpu_s / self.answered


def in_turns(
    asking: Sequence[Client], pids: Mapping[str, int], *, for_s: float, pieces: int = 4
) -> dict[str, Crowded]:
    """One round of all ways, each cut into pieces between those of the others, so that a
    neighbour's noise falls on all. ``pids``: the server of each way."""
    seen = {name: Crowded() for name in pids}
    for _ in range(pieces):
        for name, pid in pids.items():
            before_s = processes.cpu_s(pid)
            logs = together(asking, name, for_s=for_s / pieces)
            one = seen[name]
            one.cpu_s += processes.cpu_s(pid) - before_s
            one.latencies_ms += merged(logs)
            one.answered += answered(logs)
            one.seconds += for_s / pieces
    return seen
