"""Who of the waiting runs next. Pure: whoever calls has the lock, the clock and the threads.

Classes of priority come strictly one after the other, but a class that waits is owed a part
of the engine time that those above it take meanwhile: it is never starved, and never in the
way of more than one run. Within a class, models share by weight (virtual time, as in weighted
fair queueing: Demers, Keshav, Shenker 1989); within a model, first come, first served.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

HIGH, MEDIUM, LOW = 1, 2, 3
PRIORITIES = (HIGH, MEDIUM, LOW)
# Of the engine time of those above, while the class waits: an eighth and a sixteenth of all.
_OWED = {MEDIUM: 1 / 7, LOW: 1 / 15}
_FIRST_RUN_NS = 1_000_000.0  # what a run of a class is taken for before there was one


def _every(_priority: int) -> bool:
    return True


@dataclass(eq=False, slots=True, kw_only=True)
class ModelQueue:
    """One model's limits, and what it has of the engines now; ``priority``: of requests that
    name none."""

    runs_max: int
    waiting_max: int = 64
    weight: int = 1
    priority: int = MEDIUM
    running: int = 0
    waiting: int = 0
    virtual_ns: float = 0.0  # engine time by weight
    batch_rows: int = 1  # worth running as one

    @property
    def may_run(self) -> bool:
        """Whether one more of its requests may have a turn of its own.

        Where running together pays, a run that goes on is what others come together behind: a
        further one begins only when a whole batch waits.
        """
        if self.running >= self.runs_max:
            return False
        return not self.running or self.batch_rows == 1 or self.waiting >= self.batch_rows


@dataclass(eq=False, slots=True, kw_only=True)
class Ticket:
    """A request that waits. ``group``: requests of one group may run as one; None: alone.

    ``rows`` is what it brings into such a run. ``left``: it does not wait any more.
    """

    queue: ModelQueue
    priority: int
    group: Hashable = None
    rows: int = 1
    left: bool = False


@dataclass(eq=False, slots=True)
class _Class:
    """Waiting requests of one priority, by model."""

    tickets: dict[ModelQueue, deque[Ticket]] = field(default_factory=dict)
    credit_ns: float = 0.0  # engine time that those above owe it
    run_ns: float = _FIRST_RUN_NS  # what its last run took


class WaitingLine:
    """All that wait, for any model."""

    def __init__(self) -> None:
        self._classes = {priority: _Class() for priority in PRIORITIES}
        self.count = 0  # of those that wait
        self._popped = HIGH  # priority of the last: those below never come twice running

    def waiting(self, priority: int) -> int:
        """How many of one priority wait."""
        tickets = self._classes[priority].tickets.values()
        return sum(not ticket.left for line in tickets for ticket in line)

    def push(self, ticket: Ticket, *, first: bool = False) -> None:
        """At the end of its model's line; ``first``: at its head, as one that was there."""
        one, queue = self._classes[ticket.priority], ticket.queue
        if not queue.waiting and not queue.running:
            # Who was idle has saved nothing up.
            queue.virtual_ns = max(queue.virtual_ns, self._least_virtual_ns())
        if not one.tickets:
            one.credit_ns = min(one.credit_ns, 2 * one.run_ns)  # nothing is saved up
        line = one.tickets.setdefault(queue, deque())
        ticket.left = False
        (line.appendleft if first else line.append)(ticket)
        queue.waiting += 1
        self.count += 1

    def remove(self, ticket: Ticket) -> None:
        """One that waits and will no longer."""
        line = self._classes[ticket.priority].tickets[ticket.queue]
        line.remove(ticket)
        self._gone(ticket, line)

    def give_way(self, queue: ModelQueue, priority: int) -> Ticket | None:
        """Takes out the one of a model that came last of the least urgent, for one of
        ``priority``; None: all are as urgent."""
        for below in range(LOW, priority, -1):
            line = self._classes[below].tickets.get(queue)
            if line:
                ticket = line.pop()
                self._gone(ticket, line)
                return ticket
        return None

    def pop(self, may_run: Callable[[int], bool] = _every) -> Ticket | None:
        """The next that may run now, of the classes for which ``may_run``; None: nobody, or only
        models that run as often as they may."""
        for priority in self._order():
            queue = self._next_queue(priority) if may_run(priority) else None
            if queue is not None:
                line = self._classes[priority].tickets[queue]
                ticket = line.popleft()
                self._gone(ticket, line)
                self._popped = priority
                return ticket
        return None

    def mates(self, leader: Ticket, rows_max: int) -> list[Ticket]:
        """Takes out those of the leader's group, as urgent or more so, of at most ``rows_max``
        rows together, in the order in which they came."""
        taken: list[Ticket] = []
        for priority in range(HIGH, leader.priority + 1):
            line = self._classes[priority].tickets.get(leader.queue)
            for ticket in list(line or ()):
                if ticket.group == leader.group and ticket.rows <= rows_max and line is not None:
                    line.remove(ticket)
                    self._gone(ticket, line)
                    taken.append(ticket)
                    rows_max -= ticket.rows
        return taken

    def charge(self, queue: ModelQueue, priority: int, elapsed_ns: int) -> None:
        """A run of that class has ended."""
        queue.virtual_ns += elapsed_ns / queue.weight
        own = self._classes[priority]
        own.run_ns = elapsed_ns
        own.credit_ns = max(own.credit_ns - elapsed_ns, -own.run_ns)
        for below in range(priority + 1, LOW + 1):
            waiting = self._classes[below]
            if waiting.tickets:
                waiting.credit_ns += elapsed_ns * _OWED[below]

    def _order(self) -> Iterator[int]:
        for priority in (LOW, MEDIUM):
            one = self._classes[priority]
            if one.credit_ns >= one.run_ns and self._popped < priority:
                yield priority
        yield from PRIORITIES

    def _next_queue(self, priority: int) -> ModelQueue | None:
        tickets = self._classes[priority].tickets
        able = (queue for queue in tickets if queue.may_run)
        return min(able, key=lambda queue: queue.virtual_ns, default=None)

    def _least_virtual_ns(self) -> float:
        queues = (queue for one in self._classes.values() for queue in one.tickets)
        return min((queue.virtual_ns for queue in queues), default=0.0)

    def _gone(self, ticket: Ticket, line: deque[Ticket]) -> None:
        ticket.left = True
        ticket.queue.waiting -= 1
        self.count -= 1
        one = self._classes[ticket.priority]
        if not line:
            del one.tickets[ticket.queue]
