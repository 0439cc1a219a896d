"""What one loaded version has done: counts and nanoseconds by phase."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

PHASES = (
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A snapshot. ``count`` and ``ns`` by phase; ``errors`` are failures of the engine, not of
    the request; ``last_ms`` is milliseconds since 1970, 0 for never. ``requests`` are those
    that the engine ran for: an answer out of the cache says nothing about it."""

    requests: int = 0
    errors: int = 0
    last_ms: int = 0
    count: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    ns: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))


class Statistics:
    """Counters that many request threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._errors = self._last_ms = 0
        self._count = dict.fromkeys(PHASES, 0)
        self._ns = dict.fromkeys(PHASES, 0)

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
        with self._lock:
            self._add("success", queue_ns + input_ns + infer_ns + output_ns)
            self._add("queue", queue_ns)
            self._add("compute_input", input_ns)
            self._add("compute_infer", infer_ns)
            self._add("compute_output", output_ns)
            self._requests += 1
            self._last_ms = time.time_ns() // 1_000_000

    def found(self, *, whole_ns: int) -> None:
        """A request was answered without a run of its own: out of the cache, or by another's."""
        with self._lock:
            self._add("success", whole_ns)
            self._add("cache_hit", whole_ns)
            self._last_ms = time.time_ns() // 1_000_000

    def missed(self, *, own_ns: int) -> None:
        """What the cache itself cost a request that was run (and counted) all the same."""
        with self._lock:
            self._add("cache_miss", own_ns)

    def failed(self, *, whole_ns: int, engine: bool) -> None:
        """``engine``: it was the engine's fault, not the request's."""
        with self._lock:
            self._add("fail", whole_ns)
            self._requests += int(engine)
            self._errors += int(engine)

    def snapshot(self) -> Served:
        with self._lock:
            return Served(
                requests=self._requests,
                errors=self._errors,
                last_ms=self._last_ms,
                count=dict(self._count),
                ns=dict(self._ns),
            )

    def _add(self, phase: str, ns: int) -> None:
        self._count[phase] += 1
        self._ns[phase] += ns
