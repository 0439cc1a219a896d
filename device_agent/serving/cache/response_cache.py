"""One model's answers, and single-flight: of identical requests at the same time, one runs.

The first to come leads, the others follow. Where the leader fails (its engine, its patience,
no memory), one of the followers leads from there on; an error is nobody else's answer and is
never kept. A leader that nobody waits for any more still runs for its followers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from device_agent.serving.cache.kept import Kept
from device_agent.serving.cache.memory_level import MemoryLevel
from device_agent.serving.cache.request_key import RequestKey
from edge_sdk.base import Digest, UnavailableError

Source = Literal["memory", "file", "shared", "run"]

# Registers what to call once nobody waits for the answer; False: that is so already.
WhenGone = Callable[[Callable[[], None]], bool]


class Run(Protocol):
    """One run of the model. Raises: EdgeError."""

    def __call__(self, *, timeout_s: float | None, began: Callable[[], None]) -> Kept:
        """``timeout_s``: how long to wait for a turn; ``began`` is called when it has come."""


class SecondLevel(Protocol):
    """Where answers outlive memory and process. Its methods never raise."""

    size_bytes: int

    def serve(self, artifact: Digest, runs_on: str) -> None: ...

    def get(self, key: RequestKey) -> Kept | None: ...

    def offer(self, key: RequestKey, kept: Kept) -> None: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheUse:
    """Since the start of the process: requests by where their answer came from (``shared``:
    from the run of an identical one); and what is held now."""

    memory_hits: int = 0
    file_hits: int = 0
    shared: int = 0
    misses: int = 0
    entries: int = 0
    memory_bytes: int = 0
    file_bytes: int = 0


class _Flight:
    """A run under way for identical requests. Guarded by the cache's lock."""

    def __init__(self, lock: threading.Lock) -> None:
        self.changed = threading.Condition(lock)
        self.led = True
        self.running = False  # the leader has its turn: nobody waits for one any more
        self.followers = 0
        self.kept: Kept | None = None


class ResponseCache:
    """For one model, whichever of its artifacts serves."""

    def __init__(self, budget_bytes: int, second: SecondLevel | None = None) -> None:
        self._lock = threading.Lock()
        self._memory = MemoryLevel(budget_bytes)
        self._second = second
        self._artifact: Digest | None = None
        self._flights: dict[RequestKey, _Flight] = {}
        self._counts: dict[Source, int] = dict.fromkeys(("memory", "file", "shared", "run"), 0)

    def serve(self, artifact: Digest, *, runs_on: str = "") -> None:
        """From here on only answers of ``artifact`` are kept and given; all others are gone.

        ``runs_on``: what else an answer depends on (engine, processor); it does not change
        within a process, but answers in the second level may be an earlier one's.
        """
        if self._artifact == artifact:
            return
        with self._lock:
            self._artifact = artifact
            self._memory.clear()
        if self._second is not None:
            self._second.serve(artifact, runs_on)

    def stop(self) -> None:
        """Nothing is kept or given until ``serve``."""
        with self._lock:
            self._artifact = None
            self._memory.clear()
        if self._second is not None:
            self._second.stop()

    def close(self) -> None:
        """At the end of the process: what was answered so far is on its way to the disk."""
        if self._second is not None:
            self._second.close()

    def use(self) -> CacheUse:
        with self._lock:
            return CacheUse(
                memory_hits=self._counts["memory"],
                file_hits=self._counts["file"],
                shared=self._counts["shared"],
                misses=self._counts["run"],
                entries=len(self._memory),
                memory_bytes=self._memory.used_bytes,
                file_bytes=self._second.size_bytes if self._second is not None else 0,
            )

    def answer(
        self,
        key: RequestKey,
        run: Run,
        *,
        timeout_s: float | None = None,
        when_gone: WhenGone | None = None,
    ) -> tuple[Kept, Source]:
        """The answer to a request, and where it came from.

        ``timeout_s`` bounds the wait until a run begins, the caller's or another's.
        Raises: what ``run`` raises; UnavailableError (the time is over, or nobody waits).
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._lock:
            if key.artifact != self._artifact:  # came in just before a switch
                flight = None
            elif kept := self._memory.get(key):
                self._counts["memory"] += 1
                return kept, "memory"
            else:
                flight = self._flights.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight(self._lock)
                elif not leads:
                    flight.followers += 1  # from here on it is not forgotten
        if flight is None:
            kept = run(timeout_s=timeout_s, began=lambda: None)
            with self._lock:
                self._counts["run"] += 1
            return kept, "run"
        if not leads:
            shared = self._follow(key, flight, deadline_s, when_gone)
            if shared is not None:
                return shared, "shared"
        return self._lead(key, flight, run, deadline_s)

    def _lead(
        self, key: RequestKey, flight: _Flight, run: Run, deadline_s: float | None
    ) -> tuple[Kept, Source]:
        def began() -> None:
            with self._lock:
                flight.running = True
                flight.changed.notify_all()

        source: Source = "file"
        try:
            kept = self._second.get(key) if self._second is not None else None
            if kept is None:
                source = "run"
                kept = run(timeout_s=_left_s(deadline_s), began=began)
        except BaseException:
            with self._lock:
                flight.led = flight.running = False
                self._forget_if_empty(key, flight)
                flight.changed.notify_all()
            raise
        with self._lock:
            flight.kept = kept
            del self._flights[key]
            flight.changed.notify_all()
            self._counts[source] += 1
            current = key.artifact == self._artifact
            if current:
                self._memory.put(key, kept)
        if current and source == "run" and self._second is not None:
            self._second.offer(key, kept)
        return kept, source

    def _follow(
        self,
        key: RequestKey,
        flight: _Flight,
        deadline_s: float | None,
        when_gone: WhenGone | None,
    ) -> Kept | None:
        """The leader's answer; None: there is no leader any more, the caller leads now."""
        gone = threading.Event()

        def leave() -> None:
            gone.set()
            with self._lock:
                flight.changed.notify_all()

        # Without the lock: whoever calls ``leave`` may hold one of its own.
        if when_gone is not None and not when_gone(leave):
            gone.set()
        with self._lock:
            try:
                while flight.kept is None:
                    if gone.is_set():
                        raise UnavailableError("nobody waits for this request any more")
                    if not flight.led:
                        flight.led = True
                        return None
                    wait_s = None if flight.running else _left_s(deadline_s)
                    if wait_s is not None and wait_s <= 0:
                        raise UnavailableError("Request timeout expired while it waited its turn")
                    flight.changed.wait(wait_s)
                self._counts["shared"] += 1
                return flight.kept
            finally:
                flight.followers -= 1
                self._forget_if_empty(key, flight)

    def _forget_if_empty(self, key: RequestKey, flight: _Flight) -> None:
        """Where nobody leads or follows, the next one starts anew."""
        if not flight.led and not flight.followers and self._flights.get(key) is flight:
            del self._flights[key]


def _left_s(deadline_s: float | None) -> float | None:
    """At most what a lock can wait."""
    if deadline_s is None:
        return None
    return min(max(0.0, deadline_s - time.monotonic()), threading.TIMEOUT_MAX)
