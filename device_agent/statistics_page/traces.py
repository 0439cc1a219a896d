"""Requests that somebody wants to follow: a ring of small records beside the counters.

Who writes never waits, and overwrites what was not read in time; who reads tells how many
records that were.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

from device_agent.statistics_page import layout

# W3C Trace Context: version, trace, the caller's span, flags; later versions may add fields.
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-|\Z)"
)
_SAMPLED = 1
_HALF = (1 << 64) - 1


class Outcome(Enum):
    """Of a traced request; only one that ran has phases."""

    RAN = 0
    CACHED = 1  # answered without a run of its own
    FAILED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks, by ``traceparent``. ``sampled`` False: the caller wants no trace."""

    trace: int
    span: int
    sampled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """One request. ``trace`` and ``caller`` 0: it belongs to no trace yet. ``times_ns``: of its
    phases; all in the first where it did not run."""

    row: int
    outcome: Outcome
    trace: int
    caller: int
    end_ns: int  # since 1970
    times_ns: tuple[int, ...]
    batch_size: int


def parse_traceparent(text: str) -> Caller | None:
    """None: it is not what the standard says, and to be ignored."""
    found = _TRACEPARENT.match(text)
    if found is None:
        return None
    flags = int(found[3], 16)
    return Caller(trace=int(found[1], 16), span=int(found[2], 16), sampled=bool(flags & _SAMPLED))


class TraceWriter:
    """The inference process's side, for all of its threads."""

    def __init__(self, page: memoryview, *, every: int) -> None:
        """``every``: of requests without a caller's trace, one in that many; 0: none."""
        self._page = page
        if newest(page) >= layout.COUNT_MAX:  # the process before had gone mad
            page[layout.TRACES_BEGIN :] = array("Q", [0] * (len(page) - layout.TRACES_BEGIN))
        self._every = every
        self._numbers = itertools.count(newest(page) + 1)
        self._counted = itertools.count(1)
        self._asks = threading.local()

    @contextmanager
    def caller(self, traceparent: str) -> Iterator[None]:
        """Requests of this thread belong to that trace, while the block lasts."""
        self._asks.caller = parse_traceparent(traceparent)
        try:
            yield
        finally:
            self._asks.caller = None

    def note(
        self, row: int, outcome: Outcome, times_ns: tuple[int, int, int, int], batch_size: int = 1
    ) -> None:
        """A request of this thread has ended; keeps it where it is to be followed."""
        caller: Caller | None = getattr(self._asks, "caller", None)
        if caller is None:
            if not self._every or next(self._counted) % self._every:
                return
            trace = span = 0
        elif caller.sampled:
            trace, span = caller.trace, caller.span
        else:
            return
        number = next(self._numbers)
        begin = layout.trace_begin(number)
        record = (
            *(row, outcome.value, trace >> 64, trace & _HALF, span, time.time_ns()),
            *(*times_ns, batch_size),
        )
        self._page[begin] = 0
        self._page[begin + 1 : begin + 1 + len(record)] = array("Q", record)
        self._page[begin] = number


class TraceReader:
    """Another process's side: what came since the last look, from its making on."""

    def __init__(self, page: memoryview) -> None:
        self._page = page
        self._next = newest(page) + 1
        self.lost = 0

    def read(self) -> list[Traced]:
        """In their order. One that is being written at this moment counts as lost."""
        newest_now = newest(self._page)
        if newest_now < self._next:
            return []
        oldest = newest_now - layout.TRACES + 1
        if oldest > self._next:
            self.lost += oldest - self._next
            self._next = oldest
        found = []
        for number in range(self._next, newest_now + 1):
            record = self._record(number)
            if record is None:
                self.lost += 1
            else:
                found.append(record)
        self._next = newest_now + 1
        return found

    def _record(self, number: int) -> Traced | None:
        begin = layout.trace_begin(number)
        words = self._page[begin : begin + layout.TRACE_WORDS].tolist()
        if words[0] != number or self._page[begin] != number:
            return None
        _, row, outcome, high, low, span, end_ns, *rest = words
        try:
            return Traced(
                row=row,
                outcome=Outcome(outcome),
                trace=high << 64 | low,
                caller=span,
                end_ns=end_ns,
                times_ns=tuple(rest[:4]),
                batch_size=rest[4],
            )
        except ValueError:  # no such outcome
            return None


def newest(page: memoryview) -> int:
    """The number of the last record written; 0: none was."""
    firsts = page[layout.TRACES_BEGIN :: layout.TRACE_WORDS].tolist()
    return max((n for place, n in enumerate(firsts) if n % layout.TRACES == place), default=0)
