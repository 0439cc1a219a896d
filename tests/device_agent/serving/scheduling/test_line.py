"""Who runs next: strict classes that starve nobody, weights, groups."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.serving.scheduling.line import (
    HIGH,
    LOW,
    MEDIUM,
    PRIORITIES,
    ModelQueue,
    Ticket,
    WaitingLine,
)


def ticket(queue: ModelQueue, priority: int = MEDIUM, group: object = None) -> Ticket:
    return Ticket(queue=queue, priority=priority, group=group)  # type: ignore[arg-type]


def run_and_come_again(line: WaitingLine, run: Ticket, elapsed_ns: int) -> None:
    """The next of its kind is there before this one ends."""
    run.queue.running += 1
    line.push(ticket(run.queue, run.priority))
    run.queue.running -= 1
    line.charge(run.queue, run.priority, elapsed_ns)


def test_classes_come_one_after_the_other() -> None:
    """Without a run in between, the most urgent goes first, in the order in which they came."""
    line, queue = WaitingLine(), ModelQueue(runs_max=9)
    waiting = {one: [ticket(queue, one) for _ in range(2)] for one in (LOW, MEDIUM, HIGH)}
    for tickets in waiting.values():
        for one in tickets:
            line.push(one)
    wanted = [*waiting[HIGH], *waiting[MEDIUM], *waiting[LOW]]
    assert [line.pop() for _ in wanted] == wanted
    assert line.pop() is None
    assert line.count == queue.waiting == 0


@pytest.mark.parametrize(("below", "part"), [(LOW, 1 / 16), (MEDIUM, 1 / 8)])
@pytest.mark.parametrize("low_ns", [300_000, 1_000_000, 20_000_000])
def test_a_lower_class_has_its_part(below: int, part: float, low_ns: int) -> None:
    """Where those above never end, a class that waits has its part of the engine's time, also
    where its runs are long, and never two runs after another."""
    line = WaitingLine()
    queues = {HIGH: ModelQueue(runs_max=1), below: ModelQueue(runs_max=1)}
    cost_ns = {HIGH: 1_000_000, below: low_ns}
    spent_ns: Counter[int] = Counter()
    for priority, queue in queues.items():
        line.push(ticket(queue, priority))
    last = 0
    while sum(spent_ns.values()) < 4_000_000_000:
        run = line.pop()
        assert run is not None
        assert run.priority == HIGH or last == HIGH
        last = run.priority
        run_and_come_again(line, run, cost_ns[run.priority])
        spent_ns[run.priority] += cost_ns[run.priority]
    assert spent_ns[below] / sum(spent_ns.values()) == pytest.approx(part, rel=0.1)


def test_who_was_idle_has_no_claim() -> None:
    """A class that did not wait is owed nothing for what ran meanwhile."""
    line, queue = WaitingLine(), ModelQueue(runs_max=1)
    for _ in range(100):
        line.charge(queue, HIGH, 1_000_000)
    first, second = ticket(queue, HIGH), ticket(queue, LOW)
    line.push(second)
    line.push(first)
    assert line.pop() is first


def test_models_share_by_weight() -> None:
    """Of two models that always wait, one of weight 3 has three times the engine's time."""
    line = WaitingLine()
    light, heavy = ModelQueue(runs_max=1), ModelQueue(runs_max=1, weight=3)
    cost_ns = {light: 700, heavy: 1900}
    spent_ns: Counter[ModelQueue] = Counter()
    for queue in (light, heavy):
        line.push(ticket(queue))
    for _ in range(3000):
        run = line.pop()
        assert run is not None
        run_and_come_again(line, run, cost_ns[run.queue])
        spent_ns[run.queue] += cost_ns[run.queue]
    assert spent_ns[heavy] / spent_ns[light] == pytest.approx(3, rel=0.05)


def test_a_newcomer_does_not_catch_up() -> None:
    """A model that was idle while another ran shares from now on, not from the beginning."""
    line = WaitingLine()
    busy, late = ModelQueue(runs_max=1), ModelQueue(runs_max=1)
    line.push(ticket(busy))
    for _ in range(50):
        run = line.pop()
        assert run is not None
        run_and_come_again(line, run, 1000)
    for _ in range(9):
        line.push(ticket(late))
    ran = []
    for _ in range(6):
        run = line.pop()
        assert run is not None
        ran.append(run.queue)
        run_and_come_again(line, run, 1000)
    assert ran.count(busy) == 3


def test_a_model_that_runs_as_often_as_it_may_is_passed_over() -> None:
    """Others of any priority go on, and its own waits until one of its runs ends."""
    line = WaitingLine()
    full, other = ModelQueue(runs_max=1, running=1), ModelQueue(runs_max=1)
    first, second = ticket(full, HIGH), ticket(other, LOW)
    line.push(first)
    line.push(second)
    assert line.pop() is second
    assert line.pop() is None
    full.running = 0
    assert line.pop() is first


def test_a_class_that_may_not_run_is_passed_over() -> None:
    """The next of the others goes, in their order; the class keeps its place."""
    line, queue = WaitingLine(), ModelQueue(runs_max=9)
    tickets = {one: ticket(queue, one) for one in PRIORITIES}
    for one in tickets.values():
        line.push(one)
    assert line.pop(lambda priority: priority == LOW) is tickets[LOW]
    assert line.pop(lambda _: False) is None
    assert [line.pop(), line.pop()] == [tickets[HIGH], tickets[MEDIUM]]


def test_mates_are_of_one_group_and_as_urgent() -> None:
    """A leader takes those of its group along, more urgent ones too, up to a number of rows."""
    line, queue = WaitingLine(), ModelQueue(runs_max=9)
    tickets = [
        ticket(queue, LOW, "a"),
        ticket(queue, MEDIUM, "b"),
        ticket(queue, MEDIUM, "a"),
        ticket(queue, MEDIUM, "a"),
        ticket(queue, HIGH, "a"),
        ticket(queue, MEDIUM, "a"),
    ]
    tickets[3].rows = 5
    for one in tickets:
        line.push(one)
    leader = ticket(queue, MEDIUM, "a")
    assert line.mates(leader, 3) == [tickets[4], tickets[2], tickets[5]]
    assert line.mates(leader, 0) == []
    assert line.mates(ticket(queue, HIGH, None), 3) == []
    assert [line.pop() for _ in range(3)] == [tickets[1], tickets[3], tickets[0]]
    assert all(one.left for one in tickets)


def test_one_that_was_there_goes_first() -> None:
    """``first`` puts a ticket at the head of its model's line."""
    line, queue = WaitingLine(), ModelQueue(runs_max=9)
    early, late = ticket(queue), ticket(queue)
    line.push(early)
    line.push(late, first=True)
    assert [line.pop(), line.pop()] == [late, early]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["push", "pop", "remove", "mates"]), st.integers(0, 11))))
def test_nobody_is_lost_or_run_twice(steps: list[tuple[str, int]]) -> None:
    """Whatever happens in whatever order, each ticket leaves once, and the counts are right."""
    line = WaitingLine()
    queues = [ModelQueue(runs_max=99) for _ in range(2)]
    waiting: list[Ticket] = []
    for step, number in steps:
        if step == "push":
            one = ticket(queues[number % 2], PRIORITIES[number % 3], number % 4)
            line.push(one)
            waiting.append(one)
        elif step == "pop":
            got = line.pop()
            assert (got is None) == (not waiting)
            if got is not None:
                waiting.remove(got)
                line.charge(got.queue, got.priority, number)
        elif waiting and step == "remove":
            line.remove(waiting.pop(number % len(waiting)))
        elif waiting:
            leader = waiting.pop(number % len(waiting))
            line.remove(leader)
            for mate in line.mates(leader, number):
                assert (mate.queue, mate.group) == (leader.queue, leader.group)
                waiting.remove(mate)
        assert line.count == len(waiting) == sum(queue.waiting for queue in queues)
        for priority in PRIORITIES:
            assert line.waiting(priority) == sum(one.priority == priority for one in waiting)
