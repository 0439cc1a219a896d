"""Who waits for what in this process: watches of devices and of rollouts.

A wake-up is only a hint that something changed; whoever wakes reads the database.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class Waiter:
    """One waiting stream. Wake-ups that come while it works are not lost."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        """Returns once woken since the last return."""
        await self._event.wait()
        self._event.clear()


class Wakeups:
    """Waiters by topic, such as a device's name; ``closing`` once the server ends."""

    def __init__(self) -> None:
        self._waiters: defaultdict[str, set[Waiter]] = defaultdict(set)
        self.closing = False
        self.left: set[str] = set()  # devices that ended their watch and did not check in since

    @contextmanager
    def waiting(self, topic: str) -> Iterator[Waiter]:
        """A waiter on ``topic`` for as long as the block lasts."""
        waiter = Waiter()
        if self.closing:
            waiter.wake()
        self._waiters[topic].add(waiter)
        try:
            yield waiter
        finally:
            self._waiters[topic].discard(waiter)
            if not self._waiters[topic]:
                del self._waiters[topic]

    def wake(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for waiter in tuple(self._waiters.get(topic, ())):
                waiter.wake()

    def watched(self, topic: str) -> bool:
        return topic in self._waiters

    def close(self) -> None:
        """Wakes everybody for the last time."""
        self.closing = True
        self.wake(tuple(self._waiters))
