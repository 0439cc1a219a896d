"""Turns: at once, in order, with an end, and handed on from thread to thread."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

from device_agent.config import ModelConfig
from device_agent.serving.scheduling import (
    ALONE,
    HIGH,
    LOW,
    MEDIUM,
    ModelQueue,
    Scheduler,
    Waiting,
)
from edge_sdk.base import UnavailableError
from tests.support.processes import wait_for

WAIT_S = 30


def started(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def test_an_idle_engine_is_had_at_once_and_a_busy_one_in_order() -> None:
    """Both turns are taken; who waits gets the next one by priority, not by arrival."""
    scheduler = Scheduler(running_max=2)
    queue = scheduler.queue("team/a")
    assert scheduler.enter(queue, MEDIUM)
    assert scheduler.enter(queue, MEDIUM)
    assert not scheduler.enter(queue, MEDIUM)
    order: list[int] = []

    def work(priority: int) -> None:
        scheduler.wait(queue, priority, timeout_s=WAIT_S)
        order.append(priority)
        scheduler.leave(queue, priority, 1)

    threads = []
    for number, priority in enumerate((LOW, MEDIUM, HIGH), start=1):
        threads.append(started(lambda priority=priority: work(priority)))  # type: ignore[misc]
        wait_for(lambda: sum(scheduler.load().waiting) == number, "the waiter")  # noqa: B023
    assert scheduler.load().waiting == (1, 1, 1)
    scheduler.leave(queue, MEDIUM, 1)
    for thread in threads:
        thread.join(WAIT_S)
    assert order == [HIGH, MEDIUM, LOW]
    scheduler.leave(queue, MEDIUM, 1)
    assert scheduler.load().running == 0


def test_waiting_is_bounded_in_time_and_number() -> None:
    """Who waits too long, or comes when too many wait, is UNAVAILABLE; the next gets its turn."""
    scheduler = Scheduler(running_max=1, models={"team/a": ModelConfig(queue_max=1)})
    queue = scheduler.queue("team/a")
    assert scheduler.enter(queue, MEDIUM)
    with pytest.raises(UnavailableError, match="timeout expired"):
        scheduler.wait(queue, HIGH, timeout_s=0.01)
    waiter = started(lambda: scheduler.wait(queue, LOW, timeout_s=WAIT_S))
    wait_for(lambda: queue.waiting == 1, "the waiter")
    with pytest.raises(UnavailableError, match="maximum queue size of 1"):
        scheduler.wait(queue, LOW, timeout_s=WAIT_S)
    scheduler.leave(queue, MEDIUM, 1)
    waiter.join(WAIT_S)
    assert not waiter.is_alive()
    assert queue.running == 1
    scheduler.leave(queue, LOW, 1)
    assert scheduler.load().waiting == (0, 0, 0)
    scheduler.wait(queue, HIGH, timeout_s=0)  # an idle engine needs no time


def test_a_full_line_refuses_the_least_urgent() -> None:
    """Where as many wait as may, one more urgent takes the place of the last that came of the
    least urgent, which is refused at once; one as urgent as all others is refused itself."""
    scheduler = Scheduler(running_max=1, models={"team/a": ModelConfig(queue_max=3)})
    queue, other = scheduler.queue("team/a"), scheduler.queue("team/b")
    assert scheduler.enter(queue, MEDIUM)
    ended: list[tuple[str, str]] = []

    def work(name: str, queue: ModelQueue, priority: int) -> None:
        try:
            scheduler.wait(queue, priority, timeout_s=WAIT_S)
        except UnavailableError as error:
            ended.append((name, str(error)))
            return
        ended.append((name, ""))
        scheduler.leave(queue, priority, 1)

    def waiter(name: str, queue: ModelQueue, priority: int) -> threading.Thread:
        before, gone = scheduler.load().waiting, len(ended)
        thread = started(lambda: work(name, queue, priority))
        wait_for(lambda: scheduler.load().waiting != before or len(ended) > gone, f"{name} in line")
        return thread

    threads = [waiter("another model's", other, LOW)]
    threads += [waiter(f"low {number}", queue, LOW) for number in (1, 2)]
    threads.append(waiter("medium", queue, MEDIUM))
    threads.append(waiter("high 1", queue, HIGH))
    wait_for(lambda: [name for name, _ in ended] == ["low 2"], "the last of the least urgent")
    threads.append(waiter("high 2", queue, HIGH))
    threads.append(waiter("high 3", queue, HIGH))
    wait_for(lambda: len(ended) == 3, "who gives way")
    assert [name for name, _ in ended] == ["low 2", "low 1", "medium"]
    assert all("maximum queue size of 3" in why for _, why in ended)
    assert queue.waiting == 3
    with pytest.raises(UnavailableError, match="maximum queue size of 3"):
        scheduler.wait(queue, HIGH, timeout_s=WAIT_S)
    scheduler.leave(queue, MEDIUM, 1)
    for thread in threads:
        thread.join(WAIT_S)
    high = [(f"high {number}", "") for number in (1, 2, 3)]
    assert ended[3:] == [*high, ("another model's", "")]
    assert scheduler.load().waiting == (0, 0, 0)


def test_a_model_runs_as_often_as_it_may() -> None:
    """Beyond its own limit a model waits although the engine is idle, and others do not."""
    scheduler = Scheduler(running_max=4, models={"team/a": ModelConfig(runs_max=1)})
    queue, other = scheduler.queue("team/a"), scheduler.queue("team/b")
    assert scheduler.queue("team/a") is queue
    assert scheduler.enter(queue, MEDIUM)
    assert not scheduler.enter(queue, MEDIUM)
    waiter = started(lambda: scheduler.wait(queue, HIGH, timeout_s=WAIT_S))
    wait_for(lambda: queue.waiting == 1, "the waiter")
    assert all(scheduler.enter(other, MEDIUM) for _ in range(3))
    scheduler.leave(other, MEDIUM, 1)
    assert queue.waiting == 1
    scheduler.leave(queue, MEDIUM, 1)
    waiter.join(WAIT_S)
    assert queue.running == 1


def test_who_has_gone_leaves_the_line() -> None:
    """A caller that hangs up while it waits is out at once; later, its run is not disturbed."""
    scheduler = Scheduler(running_max=1)
    queue = scheduler.queue("team/a")
    assert scheduler.enter(queue, MEDIUM)
    hang_up: list[Callable[[], None]] = []

    def register(then: Callable[[], None]) -> bool:
        hang_up.append(then)
        return True

    errors: list[Exception] = []

    def work() -> None:
        try:
            scheduler.wait(queue, HIGH, timeout_s=WAIT_S, when_gone=register)
        except UnavailableError as error:
            errors.append(error)

    first = started(work)
    wait_for(lambda: len(hang_up) == 1, "it to wait")
    hang_up[0]()
    hang_up[0]()
    first.join(WAIT_S)
    assert "nobody waits" in str(errors[0])
    with pytest.raises(UnavailableError, match="nobody waits"):
        scheduler.wait(queue, HIGH, when_gone=lambda _: False)  # it had gone before
    second = started(work)
    wait_for(lambda: len(hang_up) == 2, "the second")
    scheduler.leave(queue, MEDIUM, 1)
    second.join(WAIT_S)
    hang_up[1]()
    assert len(errors) == 1
    assert (queue.running, queue.waiting) == (1, 0)


def test_mates_are_told_and_may_have_to_run_alone() -> None:
    """A leader takes the waiting of its group; each wakes with its outcome, or waits again,
    ahead of those that came later."""
    scheduler = Scheduler(running_max=1)
    queue = scheduler.queue("team/a")
    assert scheduler.enter(queue, MEDIUM)
    order: list[object] = []

    def work(name: str, group: str) -> None:
        ticket = scheduler.wait(queue, MEDIUM, group=group, work=name, timeout_s=WAIT_S)
        if ticket.outcome is ALONE:
            scheduler.again(ticket)
        if ticket.outcome is not None:
            order.append((name, ticket.outcome))
            return
        order.append(name)
        scheduler.leave(queue, MEDIUM, 1)

    threads = []
    for number, (name, group) in enumerate((("good", "g"), ("bad", "g"), ("other", "h")), start=1):
        threads.append(started(lambda name=name, group=group: work(name, group)))  # type: ignore[misc]
        wait_for(lambda: queue.waiting == number, "the waiter")  # noqa: B023
    leader = Waiting(queue=queue, priority=MEDIUM, group="g", wake=None)
    good, bad = scheduler.mates(leader, 8)
    assert (good.work, bad.work) == ("good", "bad")
    scheduler.tell(good, "answer")
    scheduler.tell(bad, ALONE)
    wait_for(lambda: queue.waiting == 2, "bad to wait again")
    scheduler.leave(queue, MEDIUM, 1)
    for thread in threads:
        thread.join(WAIT_S)
    assert order == [("good", "answer"), "bad", "other"]
    scheduler_is_idle(scheduler)


def test_a_turn_is_left_to_the_more_urgent_while_they_come() -> None:
    """After a request of high priority low ones wait although a turn is free; the next of high
    priority has it at once, and low goes on with the turns that are its own."""
    scheduler = Scheduler(running_max=2)
    queue = scheduler.queue("team/a")
    assert scheduler.enter(queue, HIGH)
    scheduler.leave(queue, HIGH, 1)
    assert scheduler.enter(queue, LOW)
    assert not scheduler.enter(queue, LOW)
    turns: list[Waiting] = []
    waiter = started(lambda: turns.append(scheduler.wait(queue, LOW, timeout_s=WAIT_S)))
    wait_for(lambda: queue.waiting == 1, "the waiter")
    assert scheduler.enter(queue, HIGH)
    scheduler.leave(queue, HIGH, 1)
    assert not turns
    scheduler.leave(queue, LOW, 1)
    waiter.join(WAIT_S)
    assert len(turns) == 1
    scheduler.leave(queue, LOW, 1)
    scheduler_is_idle(scheduler)


def test_behind_a_run_others_come_together() -> None:
    """Where running together pays, a further run begins only when a whole batch waits, or when
    nothing of the model runs; other models do not wait for that."""
    scheduler = Scheduler(running_max=3)
    queue, other = scheduler.queue("team/a"), scheduler.queue("team/b")
    queue.batch_rows = 3
    assert scheduler.enter(queue, MEDIUM)
    assert not scheduler.enter(queue, MEDIUM)
    assert scheduler.enter(other, MEDIUM)
    turns: list[Waiting] = []

    def work() -> None:
        turns.append(scheduler.wait(queue, MEDIUM, group="g", timeout_s=WAIT_S))

    threads = [started(work) for _ in range(2)]
    wait_for(lambda: queue.waiting == 2, "two that wait")
    assert (queue.running, scheduler.load().running) == (1, 2)
    threads.append(started(work))
    wait_for(lambda: len(turns) == 1, "a turn for the third")
    assert queue.running == 2
    for mate in scheduler.mates(turns[0], 2):
        scheduler.tell(mate, "answer")
    for thread in threads:
        thread.join(WAIT_S)
    assert sorted(str(one.outcome) for one in turns) == ["None", "answer", "answer"]
    last = started(work)
    wait_for(lambda: queue.waiting == 1, "another")
    scheduler.leave(queue, MEDIUM, 1)
    assert queue.waiting == 1  # one run goes on
    scheduler.leave(queue, MEDIUM, 1)
    last.join(WAIT_S)
    scheduler.leave(queue, MEDIUM, 1)
    scheduler.leave(other, MEDIUM, 1)
    scheduler_is_idle(scheduler)


def scheduler_is_idle(scheduler: Scheduler) -> None:
    load = scheduler.load()
    assert (load.running, load.waiting) == (0, (0, 0, 0))


def test_many_threads_never_exceed_the_limits() -> None:
    """Twelve threads of all priorities, with time-outs and callers that go: never more runs than
    allowed, and an idle scheduler at the end."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    scheduler = Scheduler(running_max=3, models={"team/one": ModelConfig(runs_max=1)})
    inside: dict[str, int] = {"team/one": 0, "team/all": 0}
    most: dict[str, int] = dict(inside)
    lock = threading.Lock()

    def work(number: int) -> None:
        chance = random.Random(seed + number)
        for _ in range(150):
            model = chance.choice(["team/one", "team/all"])
            queue, priority = scheduler.queue(model), chance.randint(HIGH, LOW)
            if not scheduler.enter(queue, priority):
                try:
                    scheduler.wait(
                        queue,
                        priority,
                        timeout_s=chance.choice([0.0, 0.001, WAIT_S]),
                        when_gone=chance.choice([None, lambda _: True, lambda _: False]),
                    )
                except UnavailableError:
                    continue
            with lock:
                inside[model] += 1
                most[model] = max(most[model], inside[model])
                assert sum(inside.values()) <= 3
            time.sleep(chance.random() / 3000)
            with lock:
                inside[model] -= 1
            scheduler.leave(queue, priority, 1000)

    threads = [started(lambda number=number: work(number)) for number in range(12)]  # type: ignore[misc]
    for thread in threads:
        thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in threads)
    assert most["team/one"] == 1
    scheduler_is_idle(scheduler)
