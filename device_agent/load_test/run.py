"""Starts a process for each load, lets them begin at the same moment, and gathers."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from device_agent.load_test.loads import Load
from device_agent.load_test.machine import busy_share, machine, processor_times, versions
from device_agent.load_test.measured import (
    COLUMNS,
    Samples,
    curve,
    over_time,
    summarise,
)
from device_agent.load_test.messages import Order, Said
from device_agent.load_test.verdict import Verdict, all_met, judge
from edge_sdk.base import (
    EdgeError,
    UnavailableError,
    error_classes,
)

_COMMAND = (sys.executable, "-m", "device_agent.load_test.generator")
_READY_S = 60.0
_BEGIN_IN_NS = 200_000_000  # so that every load has heard of it
_AFTER_S = 15.0  # to write what was measured, after the last deadline
_TICK_S = 0.25

# Called now and then with seconds since the begin (negative: not begun) and requests by load.
Progress = Callable[[float, dict[str, int]], None]

# Called when the requests that count begin; what it gives is called when they have ended, and
# says what went on where they were served: a list of ``{"model", "phases", ...}``.
Observe = Callable[[], Callable[[], Sequence[Mapping[str, Any]]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The agent, or inference alone; one of them is empty."""

    agent: str = ""
    inference: str = ""
    fast_lane: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    loads: tuple[Load, ...]
    where: Where
    warm_up_s: float = 1.0
    duration_s: float = 10.0
    seed: int = 0


@dataclass
class _Generator:
    """One load's process, and what it has said."""

    load: Load
    process: subprocess.Popen[bytes]
    samples: Path
    said: Said = field(default_factory=lambda: Said(state="starting"))
    buffer: bytes = b""

    @property
    def has_ended(self) -> bool:
        return self.said.state in ("done", "error")


@dataclass
class _Watch:
    """What is looked at while the loads run."""

    plan: Plan
    begin_ns: int
    progress: Progress | None
    observe: Observe | None
    busy: list[tuple[float, tuple[float, float]]] = field(default_factory=list)
    observed: Callable[[], Sequence[Mapping[str, Any]]] | None = None

    def look(self, counts: dict[str, int]) -> float:
        """Seconds since the begin, warming up included."""
        at_s = (time.perf_counter_ns() - self.begin_ns) / 1e9
        whole_s = self.plan.warm_up_s + self.plan.duration_s
        if at_s <= whole_s + _TICK_S and (not self.busy or at_s - self.busy[-1][0] >= _TICK_S):
            self.busy.append((at_s, processor_times()))
        if self.observe is not None and self.observed is None and at_s >= self.plan.warm_up_s:
            self.observed = self.observe()
        if self.progress is not None:
            self.progress(at_s, counts)
        return at_s


def run_loads(
    plan: Plan, *, progress: Progress | None = None, observe: Observe | None = None
) -> dict[str, Any]:
    """Makes all loads at the same time; the report as a document that is JSON.

    Ctrl-C ends it early: the report then says ``"interrupted": true`` and holds what was
    measured until then.
    Raises: UsageError, NotFoundError, UnavailableError and what else a first request gets.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-bench-")))
        generators = [
            stack.enter_context(_generator(plan, number, load, folder))
            for number, load in enumerate(plan.loads)
        ]
        _wait_ready(generators)
        begin_ns = time.perf_counter_ns() + _BEGIN_IN_NS
        for one in generators:
            _write(one, str(begin_ns).encode() + b"\n")
        watch = _Watch(plan, begin_ns, progress, observe)
        ended_ns, interrupted = _until_ended(generators, watch)
        begin_ns += int(plan.warm_up_s * 1e9)
        end_ns = min(ended_ns, begin_ns + int(plan.duration_s * 1e9))
        samples = [_samples(one, begin_ns, end_ns) for one in generators]
        return _document(generators, samples, watch, interrupted=interrupted)


def _until_ended(generators: Sequence[_Generator], watch: _Watch) -> tuple[int, bool]:
    """When asking ended, and whether that was by Ctrl-C."""
    plan = watch.plan
    whole_s = plan.warm_up_s + plan.duration_s
    give_up_s = whole_s + max(load.deadline_ms for load in plan.loads) / 1000 + _AFTER_S
    ended_ns, interrupted = watch.begin_ns + int(whole_s * 1e9), False
    while not all(one.has_ended for one in generators):
        try:
            _listen(generators, _TICK_S)
            if watch.look({one.load.name: one.said.count for one in generators}) > give_up_s:
                break
        except KeyboardInterrupt:
            if interrupted:
                raise
            ended_ns, interrupted = min(ended_ns, time.perf_counter_ns()), True
            for one in generators:
                _close_stdin(one)
    else:
        return ended_ns, interrupted
    raise UnavailableError("a load does not end; it was stopped")


def _wait_ready(generators: Sequence[_Generator]) -> None:
    end_s = time.monotonic() + _READY_S
    while any(one.said.state == "starting" for one in generators):
        _listen(generators, _TICK_S)
        if time.monotonic() > end_s:
            raise UnavailableError(f"no answer to a first request within {_READY_S:.0f} s")


def _listen(generators: Sequence[_Generator], wait_s: float) -> None:
    """Takes in what the processes say. Raises: what one of them could not do."""
    by_handle = {_output(one): one for one in generators if not one.has_ended}
    readable, _, _ = select.select(list(by_handle), [], [], wait_s)
    for handle in readable:
        one = by_handle[handle]
        data = os.read(handle, 65536)
        one.buffer += data
        *lines, one.buffer = one.buffer.split(b"\n")
        for line in lines:
            one.said = msgspec.json.decode(line, type=Said)
        if one.said.error is not None:
            raise _typed(one)
        if not data and not one.has_ended:
            code = one.process.wait(timeout=_AFTER_S)
            raise UnavailableError(f"the process of load {one.load.name!r} ended (exit {code})")


def _output(one: _Generator) -> int:
    assert one.process.stdout is not None
    return one.process.stdout.fileno()


def _typed(one: _Generator) -> EdgeError:
    assert one.said.error is not None
    reason, message = one.said.error
    return error_classes().get(reason, EdgeError)(f"load {one.load.name!r}: {message}")


@contextmanager
def _generator(plan: Plan, number: int, load: Load, folder: Path) -> Iterator[_Generator]:
    """Started with its order; it has ended when the block does."""
    order = Order(
        load=load,
        agent=plan.where.agent,
        inference=plan.where.inference,
        fast_lane=plan.where.fast_lane,
        seed=plan.seed + number * 1_000_003,
        warm_up_s=plan.warm_up_s,
        duration_s=plan.duration_s,
        samples=str(folder / f"{number}.npy"),
    )
    # Of a group of its own: Ctrl-C of a terminal is for us, who ask it for what it has.
    process = subprocess.Popen(
        _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    one = _Generator(load, process, Path(order.samples))
    try:
        _write(one, msgspec.json.encode(order) + b"\n")
        yield one
    finally:
        _close_stdin(one)
        try:
            process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _write(one: _Generator, data: bytes) -> None:
    assert one.process.stdin is not None
    with suppress(BrokenPipeError):  # what it said, or its exit code, tells more
        one.process.stdin.write(data)
        one.process.stdin.flush()


def _close_stdin(one: _Generator) -> None:
    assert one.process.stdin is not None
    with suppress(BrokenPipeError):
        one.process.stdin.close()


def _samples(one: _Generator, begin_ns: int, end_ns: int) -> Samples:
    rows = np.load(one.samples, allow_pickle=False).reshape(-1, COLUMNS)
    return Samples(
        rows=rows,
        kinds=one.said.kinds,
        begin_ns=begin_ns,
        end_ns=max(end_ns, begin_ns),
        truncated=one.said.truncated,
    )


def _document(
    generators: Sequence[_Generator],
    samples: Sequence[Samples],
    watch: _Watch,
    *,
    interrupted: bool,
) -> dict[str, Any]:
    plan, busy = watch.plan, watch.busy
    loads, verdicts = [], []
    for one, measured in zip(generators, samples, strict=True):
        summary = summarise(measured)
        judged = [judge(goal, summary) for goal in one.load.goals]
        verdicts += judged
        loads.append(
            {
                **asdict(one.load),
                "goals": [_goal(verdict) for verdict in judged],
                **asdict(summary),
                "failures": summary.failures,
                "versions": dict(one.said.versions),
                "first_errors": dict(one.said.first_errors),
                "curve": curve(measured),
                "over_time": over_time(measured),
            }
        )
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "interrupted": interrupted,
        "met": all_met(verdicts) if verdicts else None,
        "seconds": (samples[0].end_ns - samples[0].begin_ns) / 1e9,
        "warm_up_s": plan.warm_up_s,
        "seed": plan.seed,
        "door": "fast lane where there is one" if plan.where.fast_lane else "gRPC",
        "address": plan.where.agent or plan.where.inference,
        "machine": machine(),
        "versions": versions(),
        "busy": [
            {"at_s": later[0] - plan.warm_up_s, "share": busy_share(earlier[1], later[1])}
            for earlier, later in pairwise(busy)
        ],
        "busy_share": busy_share(busy[0][1], busy[-1][1]) if len(busy) > 1 else None,
        "served": [] if watch.observed is None else list(watch.observed()),
        "loads": loads,
    }


def _goal(verdict: Verdict) -> dict[str, Any]:
    return {
        "what": verdict.goal.what,
        "bound": verdict.goal.bound,
        "measured": verdict.measured,
        "met": verdict.met,
        "why": verdict.why,
    }
