"""What one loaded version has done: counts and nanoseconds by phase, on the statistics page.

Adding costs about 0.3 µs of each request, 1.2 where nothing was compiled
(docs/observability.md): a few words of memory that other processes read. Nothing here makes
text, or is called for by anybody else.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from device_agent.statistics_page import Row, layout
from device_agent.statistics_page.histogram import bucket_of
from device_agent.statistics_page.sums import ran, within
from device_agent.statistics_page.traces import Outcome, TraceWriter

PHASES = (
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
)

_ALONE, _BATCHED = layout.ALONE, layout.BATCHED
_WHOLE = layout.histogram_begin(4)
_now_ns = time.time_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Runs of one size: how many, and nanoseconds of all together."""

    count: int
    input_ns: int
    infer_ns: int
    output_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A snapshot. ``count`` and ``ns`` by phase; ``errors`` are failures of the engine, not of
    the request; ``last_ms`` is milliseconds since 1970, 0 for never. ``requests`` are those
    that the engine ran for: an answer out of the cache says nothing about it. ``batches``: runs
    by how many requests were in them."""

    requests: int = 0
    errors: int = 0
    last_ms: int = 0
    count: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    ns: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    batches: dict[int, Batches] = field(default_factory=dict)

    @property
    def executions(self) -> int:
        return sum(one.count for one in self.batches.values())


class Statistics:
    """Counters that many request threads add to.

    A row may hold what the same artifact did before it was loaded this time: ``snapshot`` says
    only what was added since.
    """

    def __init__(
        self,
        row: Row | None = None,
        *,
        let_go: Callable[[Row], None] | None = None,
        tracer: TraceWriter | None = None,
    ) -> None:
        """``let_go`` is called with the row when it is not written to any more. ``tracer`` keeps
        single requests that are to be followed; None: none is."""
        self._tracer = tracer
        self._row = row or Row.private()
        self._let_go = let_go
        self._words = self._row.words
        self._lock = self._row.lock
        self._acquire, self._release = self._lock.acquire, self._lock.release
        with self._lock:
            self._before = self._words[: layout.HISTOGRAMS].tolist()

    def succeeded(
        self,
        *,
        queue_ns: int,
        input_ns: int,
        infer_ns: int,
        output_ns: int,
        batch_size: int = 1,
        leads: bool = True,
    ) -> None:
        """``batch_size`` requests ran together; for one of them, ``leads`` counts the run."""
        words = self._words
        self._acquire()  # a ``with`` costs twice as much
        try:
            at = _ALONE if batch_size == 1 else _BATCHED
            ran(words, at, queue_ns, input_ns, infer_ns, output_ns)
            if batch_size > 1 and leads:
                at = layout.batch_begin(batch_size)
                words[at] += 1
                words[at + 1] += within(input_ns)
                words[at + 2] += within(infer_ns)
                words[at + 3] += within(output_ns)
        finally:
            self._release()
        if self._tracer is not None:
            times_ns = (queue_ns, input_ns, infer_ns, output_ns)
            self._tracer.note(self._row.number, Outcome.RAN, times_ns, batch_size)

    def found(self, *, whole_ns: int) -> None:
        """A request was answered without a run of its own: out of the cache, or by another's."""
        whole_ns = within(whole_ns)
        with self._lock:
            self._add(layout.HIT, whole_ns)
            self._words[_WHOLE + bucket_of(whole_ns)] += 1
            self._words[layout.LAST_NS] = _now_ns()
        if self._tracer is not None:
            self._tracer.note(self._row.number, Outcome.CACHED, (whole_ns, 0, 0, 0))

    def missed(self, *, own_ns: int) -> None:
        """What the cache itself cost a request that was run (and counted) all the same."""
        with self._lock:
            self._add(layout.MISS, within(own_ns))

    def failed(self, *, whole_ns: int, engine: bool, refused: bool = False) -> None:
        """``engine``: it was the engine's fault, not the request's; ``refused``: it got no turn."""
        whole_ns = within(whole_ns)
        with self._lock:
            self._add(layout.FAIL, whole_ns)
            self._words[layout.ERRORS] += int(engine)
            self._words[layout.REFUSED] += int(refused)
        if self._tracer is not None:
            self._tracer.note(self._row.number, Outcome.FAILED, (whole_ns, 0, 0, 0))

    def set_serving(self, serving: bool) -> None:
        """Whether requests that name no version come here."""
        self._words[layout.STATE] = layout.SERVING if serving else layout.LOADED
        if not serving:
            self.set_gauges(in_flight=0)

    def set_loaded(self, *, memory_bytes: int, load_ms: float) -> None:
        self._words[layout.ROW_MEMORY_BYTES] = max(0, memory_bytes)
        self._words[layout.LOAD_NS] = int(load_ms * 1e6)

    def set_gauges(self, *, in_flight: int, waiting: int = 0, running: int = 0) -> None:
        self._words[layout.IN_FLIGHT] = in_flight
        self._words[layout.WAITING] = waiting
        self._words[layout.RUNNING] = running

    def set_cache(self, counts: Sequence[int]) -> None:
        """The words of ``CacheCounts``."""
        self._words[layout.CACHE : layout.CACHE + layout.CACHE_WORDS] = array("Q", counts)

    def close(self) -> None:
        """Nothing more is added. Again is allowed."""
        let_go, self._let_go = self._let_go, None
        if let_go is not None:
            let_go(self._row)

    def snapshot(self) -> Served:
        with self._lock:
            now = self._words[: layout.HISTOGRAMS].tolist()
        return _served([late - early for late, early in zip(now, self._before, strict=True)], now)

    def _add(self, at: int, time_ns: int) -> None:
        self._words[at] += 1
        self._words[at + 1] += time_ns


def _served(added: list[int], now: list[int]) -> Served:
    ran, *phases_ns = (added[layout.ALONE + n] + added[layout.BATCHED + n] for n in range(5))
    queue_ns, input_ns, infer_ns, output_ns = phases_ns
    hits, hits_ns = added[layout.HIT], added[layout.HIT_NS]
    errors = added[layout.ERRORS]
    last_ns = now[layout.LAST_NS] if ran or hits else 0
    return Served(
        requests=ran + errors,
        errors=errors,
        last_ms=last_ns // 1_000_000,
        count=dict(
            zip(
                PHASES,
                (ran + hits, added[layout.FAIL], *[ran] * 4, hits, added[layout.MISS]),
                strict=True,
            )
        ),
        ns=dict(
            zip(
                PHASES,
                (
                    *(sum(phases_ns) + hits_ns, added[layout.FAIL_NS]),
                    *(queue_ns, input_ns, infer_ns, output_ns),
                    *(hits_ns, added[layout.MISS_NS]),
                ),
                strict=True,
            )
        ),
        batches=_batches(added),
    )


def _batches(added: list[int]) -> dict[int, Batches]:
    found = {}
    if added[layout.ALONE]:
        count, _, *sums = added[layout.ALONE : layout.ALONE + 5]
        found[1] = Batches(count=count, input_ns=sums[0], infer_ns=sums[1], output_ns=sums[2])
    for size in range(2, layout.BATCH_SIZES + 1):
        at = layout.batch_begin(size)
        count, *sums = added[at : at + layout.BATCH_WORDS]
        if count:
            found[size] = Batches(
                count=count, input_ns=sums[0], infer_ns=sums[1], output_ns=sums[2]
            )
    return found
