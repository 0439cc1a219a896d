"""The threads of the door: as many as needed, none lost, none idle while work waits."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from device_agent.access.threads import DoorThreads, heard, refuse_here
from edge_sdk.base import BusyError
from tests.support.processes import wait_for


def test_a_thread_is_used_again() -> None:
    """One after the other runs in the same thread; two at once need two."""
    threads = DoorThreads(4, name="door")
    seen: list[int] = []
    for count in range(1, 6):
        threads.submit(lambda: seen.append(threading.get_ident()))
        wait_for(lambda count=count: len(seen) == count and threads._idle, "an idle thread")  # type: ignore[misc]
    assert len(set(seen)) == 1
    meet = threading.Barrier(2)
    for _ in range(2):
        threads.submit(meet.wait, 20)
    wait_for(lambda: len(threads._idle) == 2, "both threads")
    threads.close()


def test_what_waits_is_run_in_order() -> None:
    """More tasks than threads: the others wait, and each is run once."""
    threads = DoorThreads(1, name="door")
    go = threading.Event()
    seen: list[int] = []
    threads.submit(go.wait, 20)
    for number in range(100):
        threads.submit(seen.append, number)
    assert seen == []
    go.set()
    wait_for(lambda: len(seen) == 100, "all tasks")
    assert seen == list(range(100))
    assert len(threads._workers) == 1
    threads.close()


def test_nothing_is_lost_while_threads_come_to_rest() -> None:
    """Tasks as short as the moment between two of them: all are run and all are told of."""
    threads = DoorThreads(3, name="door")
    over: list[object] = []
    for _ in range(3000):
        threads.submit(lambda: None).add_done_callback(over.append)
    wait_for(lambda: len(over) == 3000, "all tasks")
    assert len(set(map(id, over))) == 3000
    threads.close()


def test_who_asks_late_is_told_at_once() -> None:
    """A callback that is added after the end is called by who adds it."""
    threads = DoorThreads(1, name="door")
    task = threads.submit(lambda: None)
    wait_for(lambda: bool(threads._idle), "the end")
    told: list[Any] = []
    task.add_done_callback(told.append)
    assert told == [task]
    threads.close()


def test_an_error_does_not_end_its_thread(capfd: pytest.CaptureFixture[str]) -> None:
    """It is shown, and the next task is run."""
    threads = DoorThreads(1, name="door")
    over = threading.Event()
    threads.submit(int, "no number")
    threads.submit(over.set)
    assert over.wait(20)
    assert "no number" in capfd.readouterr().err
    threads.close()


def test_closed_threads_end() -> None:
    """Those that rest at once, those at work after it."""
    before = threading.active_count()
    threads = DoorThreads(4, name="door")
    go = threading.Event()
    threads.submit(go.wait, 20)
    threads.submit(lambda: None)
    wait_for(lambda: bool(threads._idle), "an idle thread")
    threads.close()
    go.set()
    wait_for(lambda: threading.active_count() <= before, "the end of the threads")


def test_a_machine_without_threads_makes_do_with_those_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that gets no thread of its own waits for one; without any thread it is refused."""
    threads = DoorThreads(4, name="door")
    go, seen = threading.Event(), list[int]()
    threads.submit(go.wait, 20)

    def none_left(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none_left)
        threads.submit(seen.append, 1)
        with pytest.raises(RuntimeError):
            DoorThreads(4, name="bare").submit(seen.append, 2)
    go.set()
    wait_for(lambda: seen == [1], "the task")
    threads.close()


class Call:
    """As gRPC hands it in: an event, whose call can be cancelled."""

    def __init__(self) -> None:
        self.call = self
        self.over = threading.Event()

    def cancel(self) -> None:
        self.over.set()


def test_silent_calls_give_way_to_one_that_waits() -> None:
    """Only those that never said that their request is here, and nobody has to ask again."""
    threads = DoorThreads(3, name="door", patience_s=0.05)
    silent, working, go = [Call(), Call()], Call(), threading.Event()

    def wait(call: Call) -> None:
        assert call.over.wait(20)

    def work(_call: Call) -> None:
        heard()
        assert go.wait(20)

    for one in silent:
        threads.submit(wait, one)
    threads.submit(work, working)
    wait_for(lambda: threads.silent == 2, "two that say nothing")
    done = threading.Event()
    threads.submit(done.set)
    assert done.wait(20)
    assert all(one.over.is_set() for one in silent)
    assert not working.over.is_set()
    go.set()
    threads.close()


def test_silent_calls_stay_while_there_are_threads() -> None:
    """A slow caller keeps its call where the others find a thread."""
    threads = DoorThreads(2, name="door", patience_s=0.0)
    slow = Call()
    threads.submit(lambda call: call.over.wait(20), slow)
    for _ in range(5):
        done = threading.Event()
        threads.submit(done.set)
        assert done.wait(20)
        wait_for(lambda: bool(threads._idle), "an idle thread")
    assert not slow.over.is_set()
    slow.cancel()
    threads.close()


def test_patience_is_short_where_most_are_silent() -> None:
    """Whoever begins its silent calls again and again does not keep others out for long."""
    threads = DoorThreads(2, name="door", patience_s=20.0)
    silent = [Call() for _ in range(6)]
    for one in silent:
        threads.submit(lambda call: call.over.wait(20), one)
    done = threading.Event()
    threads.submit(done.set)
    assert done.wait(15)
    for one in silent:
        one.cancel()
    threads.close()


def test_callers_wait_in_lines_of_their_own() -> None:
    """Who asks for little is not behind all that another asked for."""
    threads = DoorThreads(1, name="door")
    go, seen = threading.Event(), list[str]()
    threads.submit(go.wait, 20)
    for caller, count in (("greedy", 5), ("honest", 2)):
        for number in range(count):
            threads.admit(caller)
            threads.submit(seen.append, f"{caller} {number}")
    go.set()
    wait_for(lambda: len(seen) == 7, "all tasks")
    assert seen[:5] == ["greedy 0", "honest 0", "greedy 1", "honest 1", "greedy 2"]
    threads.close()


def test_a_caller_has_so_many_calls() -> None:
    """Those that wait count; others come in, and so does it once some are over."""
    threads = DoorThreads(1, name="door", each_max=3)
    go = threading.Event()
    for _ in range(3):
        threads.admit("greedy")
        threads.submit(go.wait, 20)
    with pytest.raises(BusyError, match="3 calls of this app"):
        threads.admit("greedy")
    threads.admit("honest")
    threads.submit(go.wait, 20)
    go.set()
    wait_for(lambda: not threads._calls, "the end of all")
    threads.admit("greedy")
    threads.submit(lambda: None)
    threads.close()


def test_what_is_refused_takes_no_thread() -> None:
    """It is answered in the thread that took the call, though all others are at work."""
    threads = DoorThreads(1, name="door")
    go, seen = threading.Event(), list[int]()
    threads.submit(go.wait, 20)
    refuse_here()
    threads.submit(lambda: seen.append(threading.get_ident()))
    assert seen == [threading.get_ident()]
    threads.submit(seen.append, 2)
    assert seen == [threading.get_ident()]  # that one waits again
    go.set()
    wait_for(lambda: len(seen) == 2, "the task")
    threads.close()
