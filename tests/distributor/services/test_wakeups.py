"""Wake-ups reach those who wait, and are not lost while they work."""

from __future__ import annotations

import asyncio

from distributor.services import Wakeups


def test_only_the_topic_wakes() -> None:
    """A waiter wakes for its topic, once for any number of wake-ups before it looks."""

    async def act() -> None:
        wakeups = Wakeups()
        with wakeups.waiting("a") as first, wakeups.waiting("b") as second:
            wakeups.wake(["a", "a", "nobody"])
            await asyncio.wait_for(first.wait(), 5)
            waiting = [asyncio.create_task(one.wait()) for one in (first, second)]
            done, pending = await asyncio.wait(waiting, timeout=0.05)
            assert not done
            wakeups.wake(["b"])
            await asyncio.wait_for(waiting[1], 5)
            for task in pending:
                task.cancel()

    asyncio.run(act())


def test_who_leaves_is_forgotten() -> None:
    """A topic is watched only while somebody waits on it."""
    wakeups = Wakeups()
    assert not wakeups.watched("a")
    with wakeups.waiting("a"), wakeups.waiting("a"):
        assert wakeups.watched("a")
    assert not wakeups.watched("a")


def test_closing_wakes_all_and_those_who_come_late() -> None:
    """Once closing, nobody waits for ever."""

    async def act() -> None:
        wakeups = Wakeups()
        with wakeups.waiting("a") as waiter:
            wakeups.close()
            await asyncio.wait_for(waiter.wait(), 5)
        with wakeups.waiting("b") as late:
            await asyncio.wait_for(late.wait(), 5)
        assert wakeups.closing

    asyncio.run(act())
