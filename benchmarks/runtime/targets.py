"""The targets, each a row with a stable id; what was not measured is a row as well.

``line`` names the line of the table of targets that a row belongs to (LINES), ``family`` the
part of the benchmark that measures it. Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.rows import Anchor, Direction, Row

LINES = {
    "lane-small": "fast lane, small tensor, full scheduler and metrics",
    "lane-large": "600 KB tensor through shared memory",
    "stock-one": "stock tritonclient over gRPC, one client",
    "stock-eight": "the same, eight clients",
    "flight": "16 identical requests on a 50 ms model",
    "swap": "1,000 swaps under load",
    "priority": "high-priority p99 while low priority saturates",
    "batching": "adaptive batching, on a weight-bound and on a convolutional model",
    "pool": "pool, 10,000 requests after warm-up, static shapes",
    "update": "serving while an update downloads, applies and loads",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One bound. ``worst``: the worst sample decides, not the median."""

    id: str
    line: str
    family: str
    what: str
    unit: str
    direction: Direction
    limit: float
    worst: bool = False

    def row(self, samples: Sequence[float], beside: Anchor | None = None) -> Row:
        """The measured row; without samples it has no value, and is not met."""
        decide: Callable[[Sequence[float]], float] = statistics.median
        if self.worst:
            decide = max if self.direction == "<=" else min
        return Row(
            id=self.id,
            what=self.what,
            value=decide(samples) if samples else None,
            unit=self.unit,
            direction=self.direction,
            target=self.limit,
            samples=tuple(samples),
            anchor=beside,
        )


def _lane() -> list[Target]:
    found = [
        Target(
            id=f"runtime.lane.small.{place}.p50",
            line="lane-small",
            family="lane",
            what=f"fast lane, 64 floats, {place}: p50",
            unit="us",
            direction="<=",
            limit=limit,
        )
        for place, limit in (("same-core", 25), ("other-core", 60))
    ]
    found += [
        Target(
            id=f"runtime.lane.small.{place}.p99-over-floor",
            line="lane-small",
            family="lane",
            what=f"fast lane, 64 floats, {place}: p99 above the socket floor's p99",
            unit="us",
            direction="<=",
            limit=80,
        )
        for place in ("same-core", "other-core", "free")
    ]
    # Not of other-core: its bound of 60 us and Triton's 500 are 8 times, whoever keeps both.
    found += [
        Target(
            id=f"runtime.triton-over-lane.small.{place}",
            line="lane-small",
            family="lane",
            what=f"Triton's gRPC p50 over the fast lane's, 64 floats, {place}",
            unit="times",
            direction=">=",
            limit=15,
        )
        for place in ("same-core", "free")
    ]
    found.append(
        Target(
            id="runtime.lane.large.same-core.p50",
            line="lane-large",
            family="lane",
            what="fast lane, 600 KB in, 10 floats out, same-core: p50",
            unit="us",
            direction="<=",
            limit=100,
        )
    )
    found += [
        Target(
            id=f"runtime.lane-over-triton-shm.large.{place}",
            line="lane-large",
            family="lane",
            what=f"fast lane's p50 over Triton's system shared memory's, 600 KB in, {place}",
            unit="times",
            direction="<=",
            limit=0.7,
        )
        for place in ("other-core", "free")
    ]
    return found


def _stock() -> list[Target]:
    return [
        Target(
            id="runtime.stock.one.p50-over-triton",
            line="stock-one",
            family="stock",
            what="stock tritonclient over gRPC, one client: p50 over Triton's",
            unit="times",
            direction="<=",
            limit=1.10,
        ),
        Target(
            id="runtime.stock.one.cpu-over-echo",
            line="stock-one",
            family="stock",
            what="stock tritonclient over gRPC, one client: server's CPU over a plain echo's",
            unit="times",
            direction="<=",
            limit=1.25,
        ),
        Target(
            id="runtime.stock.eight.throughput-over-echo",
            line="stock-eight",
            family="eight",
            what="stock tritonclient over gRPC, eight clients: throughput over a plain echo's",
            unit="times",
            direction=">=",
            limit=0.8,
        ),
    ]


def _flight() -> list[Target]:
    return [
        Target(
            id="runtime.flight.executions",
            line="flight",
            family="flight",
            what="16 identical requests at once on a 50 ms model: executions",
            unit="executions",
            direction="<=",
            limit=1,
            worst=True,
        ),
        Target(
            id="runtime.flight.last-answer",
            line="flight",
            family="flight",
            what="16 identical requests at once: the last answer over one run alone",
            unit="times",
            direction="<=",
            limit=1.2,
        ),
    ]


def _swap() -> list[Target]:
    found = [
        Target(
            id="runtime.swap.errors",
            line="swap",
            family="swap",
            what="1,000 swaps under load: errors, and answers that are not their version's",
            unit="requests",
            direction="<=",
            limit=0,
            worst=True,
        ),
        Target(
            id="runtime.swap.rss-growth",
            line="swap",
            family="swap",
            what="1,000 swaps: growth of RssAnon from swap 10 to 1,000",
            unit="%",
            direction="<=",
            limit=2,
        ),
    ]
    # A median of at most 10 ms over five rounds is "in at least three of five".
    found += [
        Target(
            id=f"runtime.swap.{name}-over-control",
            line="swap",
            family="swap",
            what=f"1,000 swaps under load: {words} above that of a control beside it",
            unit="ms",
            direction="<=",
            limit=10,
        )
        for name, words in (("p999", "p99.9"), ("worst", "slowest request"))
    ]
    return found


def _priority() -> list[Target]:
    return [
        Target(
            id="runtime.priority.high-p99",
            line="priority",
            family="priority",
            what="high priority while low saturates: p99 above unloaded p99 and one batch",
            unit="ms",
            direction="<=",
            limit=4,
        ),
        Target(
            id="runtime.priority.low-share",
            line="priority",
            family="priority",
            what="low priority while high saturates too: its share of the answers",
            unit="%",
            direction=">=",
            limit=5,
        ),
    ]


def _batching() -> list[Target]:
    found = []
    for name, words in (("weights", "12 MB MLP"), ("convolution", "convolutions")):
        found.append(
            Target(
                id=f"runtime.batching.{name}.alone",
                line="batching",
                family="batching",
                what=f"adaptive batching, {words}, one client: p50 over batching off",
                unit="times",
                direction="<=",
                limit=1.05,
            )
        )
        found.append(
            Target(
                id=f"runtime.batching.{name}.eight",
                line="batching",
                family="batching",
                what=f"adaptive batching, {words}, eight clients: throughput over the best "
                "fixed window's",
                unit="times",
                direction=">=",
                limit=0.9,
            )
        )
    return found


def _pool() -> list[Target]:
    listed: list[tuple[str, str, str, float, bool]] = [
        ("outside-slabs", "tensors outside the pool's slabs", "tensors", 0, True),
        ("tracemalloc-peak", "peak of tracemalloc above its begin", "bytes", 4095, False),
        ("mallocs", "calls of malloc for 4 KiB or more", "calls", 10, False),
        ("page-faults", "minor page faults", "faults", 100, False),
        ("time-over-none", "one request's time over that without a pool", "times", 1, False),
        ("peak-over-none", "peak of RssAnon over that without a pool", "times", 1, False),
    ]
    return [
        Target(
            id=f"runtime.pool.{name}",
            line="pool",
            family="pool",
            what=f"pool, 10,000 requests after warm-up: {words}",
            unit=unit,
            direction="<=",
            limit=limit,
            worst=worst,
        )
        for name, words, unit, limit, worst in listed
    ]


def _update() -> list[Target]:
    return [
        Target(
            id="runtime.update.p99-over-steady",
            line="update",
            family="update",
            what="while an update downloads, applies and loads: p99 above the steady p99",
            unit="ms",
            direction="<=",
            limit=5,
        ),
    ]


TARGETS = (
    *(_lane() + _stock() + _flight() + _swap() + _priority()),
    *(_batching() + _pool() + _update()),
)
_BY_ID = {target.id: target for target in TARGETS}


def target(identity: str) -> Target:
    """Raises: KeyError."""
    return _BY_ID[identity]


def complete(rows: Sequence[Row]) -> list[Row]:
    """With a row for each target that nothing measured, in the order of the table, and what
    has no target after them."""
    measured = {one.id: one for one in rows}
    aimed = [measured.pop(one.id, None) or one.row([]) for one in TARGETS]
    return [*aimed, *measured.values()]
