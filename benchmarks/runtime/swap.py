"""1,000 swaps of a model of 12 MB under load, beside a process that swaps nothing.

Both processes serve the same load at the same time on the same cores, so that a stall of the
machine falls on both. Requests have times of their own (open loop); each answer's value must
be that of the version which it names.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.rows import Row, anchor, row
from benchmarks.runtime import clients, figures, models, processes, served
from benchmarks.runtime.clients import Client, Log
from benchmarks.runtime.served import Artifact, Served
from benchmarks.runtime.targets import target

SWAPS = 1000
_MODEL = "bench/swapped"
_RATE = 200.0
_LONGEST_S = 120.0
_FIRST = 10  # memory is compared from this swap on
_AROUND = 10  # the median of so many swaps


@dataclass(slots=True)
class Seen:
    """By round: what the two clients logged; by swap: private memory, and how long it took."""

    swapped: list[Log] = field(default_factory=list)
    control: list[Log] = field(default_factory=list)
    rss_bytes: list[float] = field(default_factory=list)
    swap_ms: list[float] = field(default_factory=list)


def measure(folder: Path, *, rounds: int, swaps: int = SWAPS) -> list[Row]:
    versions = [
        Artifact(
            model=_MODEL,
            path=models.weight_bound(folder / version, seed=number),
            version=version,
        )
        for number, version in enumerate(("1.0.0", "2.0.0"))
    ]
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        first = versions[:1]
        server, other = (enter(served.serve(folder / name, first)) for name in ("ours", "control"))
        asking = [enter(_client(one, versions)) for one in (server, other)]
        seen = Seen()
        turns = itertools.cycle([versions[::-1], versions])  # (next, the one that serves)
        for _ in range(rounds):
            _round(server, asking, turns, swaps // rounds, seen)
    return _rows(seen)


def _client(
    server: Served, versions: Sequence[Artifact]
) -> contextlib.AbstractContextManager[Client]:
    way = clients.way("lane", server.address, _MODEL, models.WEIGHTS_SHAPE)
    from benchmarks.runtime.client_child import given

    array = given(way)
    expected = {one.version: models.bare(one.path).run(None, {"x": array})[0] for one in versions}
    return clients.client({"lane": way}, expected)


def _round(
    server: Served,
    asking: Sequence[Client],
    turns: itertools.cycle[list[Artifact]],
    swaps: int,
    seen: Seen,
) -> None:
    begin_s = asking[0].begin("lane", for_s=_LONGEST_S, rate=_RATE)
    # Between the first one's requests: the two do not wait for one another's.
    asking[1].begin("lane", for_s=_LONGEST_S, rate=_RATE, at_s=begin_s, phase_s=0.5 / _RATE)
    processes.sleep_until(begin_s)
    for _ in range(swaps):
        candidate, before = next(turns)
        seen.swap_ms.append(_swap_ms(server, candidate, before))
        seen.rss_bytes.append(float(processes.status_bytes(server.pid, "RssAnon")))
    for one in asking:
        one.stop()
    seen.swapped.append(asking[0].log())
    seen.control.append(asking[1].log())


def _swap_ms(server: Served, candidate: Artifact, before: Artifact) -> float:
    began_s = time.perf_counter()
    server.prepare(candidate)
    server.switch(candidate)
    server.drop(before)
    return 1000 * (time.perf_counter() - began_s)


def _rows(seen: Seen) -> list[Row]:
    for log in seen.swapped:
        for problem in log.errors:
            print(f"swap: {problem}", file=sys.stderr)
    swapped, control = ([log.latencies_ms for log in one] for one in (seen.swapped, seen.control))
    errors = [float(log.failed) for log in seen.swapped]
    count = sum(len(one) for one in swapped)
    rows = [
        target("runtime.swap.errors").row(
            errors, anchor("requests with a right answer", "", [float(count - sum(errors))])
        ),
        target("runtime.swap.rss-growth").row([_growth(seen.rss_bytes)]),
    ]
    for name, percent in (("p999", 99.9), ("worst", 100.0)):
        ours, theirs = (figures.percentiles(one, percent) for one in (swapped, control))
        beside = anchor("control, ms", "", theirs)
        excess = figures.excesses(ours, theirs)
        rows.append(target(f"runtime.swap.{name}-over-control").row(excess, beside))
    first, last = (figures.percentiles(part, 99) for part in (swapped[:1], swapped[-1:]))
    beside = anchor("in the first round, ms", "", first)
    rows += [
        row("runtime.swap.p99-last", "p99 in the last round", last, "ms", "<=", anchor=beside),
        row("runtime.swap.time", "one swap: load, warm, switch, unload", seen.swap_ms, "ms", "<="),
        row(
            "runtime.swap.rss",
            "RssAnon after each tenth swap",
            [one / (1 << 20) for one in seen.rss_bytes[9::10]],
            "MiB",
            "<=",
        ),
    ]
    return rows


def _growth(rss_bytes: Sequence[float]) -> float:
    before = statistics.median(rss_bytes[_FIRST - 1 : _FIRST - 1 + _AROUND])
    return figures.growth_percent(before, statistics.median(rss_bytes[-_AROUND:]))
