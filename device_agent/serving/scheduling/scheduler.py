"""Turns on the engines: at once where one is idle, else in the order of ``WaitingLine``.

There is no thread here. A request runs in its own; who ends a run hands the turn on to the
thread of the next. A hand-over costs 7 to 40 µs, an idle engine's turn a lock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from device_agent.config import ModelConfig
from device_agent.serving.scheduling.line import LOW, ModelQueue, Ticket, WaitingLine
from device_agent.serving.scheduling.turns import Turns
from edge_sdk.base import UnavailableError

_now_ns = time.perf_counter_ns

WhenGone = Callable[[Callable[[], None]], bool]

_DEFAULT = ModelConfig()

ALONE = object()  # the outcome of a run together that failed


@dataclass(eq=False, slots=True, kw_only=True)
class Waiting(Ticket):
    """A ticket with the thread that waits for it."""

    wake: Any  # a lock that is held until there is something to be told
    abandoned: bool = False  # whoever asked has gone
    gave_way: bool = False  # to one more urgent
    work: Any = None  # the request, for a leader that takes it along
    outcome: Any = None  # what the leader made of it, or ALONE
    row: int = 0  # where in the leader's run its own begins


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What goes on now: ``waiting`` by priority, and how many run."""

    running: int
    waiting: tuple[int, int, int]


class Scheduler:
    """At most ``running_max`` runs at once, and for each model as many as it may."""

    def __init__(
        self, *, running_max: int, models: Mapping[str, ModelConfig] | None = None
    ) -> None:
        self._lock = threading.Lock()
        # Twice for each request, and a ``with`` costs twice as much.
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._turns = Turns(running_max)
        self._models = models or {}
        self._queues: dict[str, ModelQueue] = {}
        self._line = WaitingLine()

    def queue(self, model: str) -> ModelQueue:
        """A model's, which stays the same over its versions."""
        queue = self._queues.get(model)
        if queue is None:
            wanted = self._models.get(model, _DEFAULT)
            queue = self._queues.setdefault(
                model,
                ModelQueue(
                    runs_max=min(wanted.runs_max or self._turns.most, self._turns.most),
                    waiting_max=wanted.queue_max,
                    weight=wanted.weight,
                    priority=wanted.priority,
                ),
            )
        return queue

    def enter(self, queue: ModelQueue, priority: int) -> bool:
        """Takes a turn if there is one at once; ``leave`` must follow."""
        turns, now_ns = self._turns, _now_ns()
        self._acquire()
        try:
            # Whoever waits while a turn is free waits for a model of which enough runs, or leaves
            # the turn to those that are more urgent.
            if queue.running and not queue.may_run:
                turns.came(priority, now_ns)
            elif turns.enter(priority, now_ns):
                queue.running += 1
                return True
            return False
        finally:
            self._release()

    def wait(
        self,
        queue: ModelQueue,
        priority: int,
        *,
        group: Hashable = None,
        rows: int = 1,
        work: object = None,
        timeout_s: float | None = None,
        when_gone: WhenGone | None = None,
    ) -> Waiting:
        """Waits for a turn, or to be run along with others of ``group``: then it has an outcome.

        Raises: UnavailableError (too many wait, the time is over, or the caller has gone).
        """
        wake = threading.Lock()
        wake.acquire()
        ticket = Waiting(
            queue=queue, priority=priority, group=group, rows=rows, work=work, wake=wake
        )
        with self._lock:
            if queue.may_run and self._turns.is_free(priority, _now_ns()):
                self._start(ticket)
                return ticket
            if queue.waiting >= queue.waiting_max:
                self._make_room(queue, priority)
            self._line.push(ticket)
            self._hand_on()  # it may have made a batch whole
        if when_gone is not None and not when_gone(lambda: self._abandon(ticket)):
            self._abandon(ticket)
        self._sleep(ticket, timeout_s)
        return ticket

    def again(self, ticket: Waiting) -> None:
        """Waits once more, ahead of its like and for as long as it takes, to run alone."""
        ticket.group = ticket.outcome = None
        with self._lock:
            if ticket.queue.may_run and self._turns.is_free(ticket.priority, _now_ns()):
                self._start(ticket)
                return
            self._line.push(ticket, first=True)
            self._hand_on()
        self._sleep(ticket, None)

    def mates(self, leader: Ticket, rows_max: int) -> list[Waiting]:
        """Those that shall run with one that has its turn; each gets an ``outcome`` by ``tell``."""
        with self._lock:
            return self._line.mates(leader, rows_max)  # type: ignore[return-value]

    def tell(self, ticket: Waiting, outcome: object) -> None:
        """Ends the wait of a ticket that ``mates`` gave."""
        ticket.outcome = outcome
        ticket.wake.release()

    def leave(self, queue: ModelQueue, priority: int, elapsed_ns: int) -> None:
        """Ends a turn; the next begins in the thread of whoever waited for it."""
        self._acquire()
        try:
            queue.running -= 1
            self._turns.give_back(priority)
            if self._line.count:
                self._line.charge(queue, priority, elapsed_ns)
                self._hand_on()
        finally:
            self._release()

    def load(self) -> Load:
        with self._lock:
            high, medium, low = (self._line.waiting(one) for one in range(1, LOW + 1))
            return Load(running=self._turns.running, waiting=(high, medium, low))

    def _make_room(self, queue: ModelQueue, priority: int) -> None:
        """For one more to wait. Raises: UnavailableError, unless one less urgent gives way."""
        ticket = self._line.give_way(queue, priority)
        if ticket is None:
            raise UnavailableError(_full(queue))
        ticket.gave_way = True  # type: ignore[attr-defined]
        ticket.wake.release()  # type: ignore[attr-defined]

    def _hand_on(self) -> None:
        turns, now_ns = self._turns, _now_ns()
        while turns.running < turns.most:
            ticket = self._line.pop(lambda priority: turns.is_free(priority, now_ns))
            if ticket is None:
                return
            self._start(ticket)
            ticket.wake.release()  # type: ignore[attr-defined]

    def _start(self, ticket: Ticket) -> None:
        self._turns.take(ticket.priority)
        ticket.queue.running += 1
        ticket.left = True

    def _sleep(self, ticket: Waiting, timeout_s: float | None) -> None:
        limit_s = -1 if timeout_s is None else min(max(timeout_s, 0), threading.TIMEOUT_MAX)
        if not ticket.wake.acquire(timeout=limit_s):
            with self._lock:
                if not ticket.left:
                    self._line.remove(ticket)
                    raise UnavailableError("Request timeout expired while it waited for its turn")
            ticket.wake.acquire()  # it was chosen in the last moment
        if ticket.abandoned:
            raise UnavailableError("nobody waits for this request any more")
        if ticket.gave_way:
            raise UnavailableError(f"{_full(ticket.queue)}; a more urgent one came")

    def _abandon(self, ticket: Waiting) -> None:
        """From any thread: a request that still waits ends; one that runs is not disturbed."""
        with self._lock:
            if ticket.left:
                return
            self._line.remove(ticket)
            ticket.abandoned = True
        ticket.wake.release()


def _full(queue: ModelQueue) -> str:
    return f"Exceeds maximum queue size of {queue.waiting_max} requests"
