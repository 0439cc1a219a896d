"""Open and closed loops over a model that the test plays."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from device_agent.load_test.measured import DROPPED, OK
from device_agent.load_test.sending import ClosedLoop, OpenLoop

FAR_NS = 10**12


def open_loop(ask, due, **settings) -> OpenLoop:
    given = {"in_flight": 4, "give_up_ns": FAR_NS, "stop": threading.Event(), **settings}
    return OpenLoop(ask, np.array(due, np.int64), **given)


def test_each_request_is_asked_once_and_not_before_it_is_due() -> None:
    """All numbers of the schedule, once each, none early."""
    asked: list[int] = []
    due = np.arange(0, 20_000_000, 200_000)
    sender = open_loop(lambda _, number: (asked.append(number), (OK, -1))[1], due)
    begin_ns = time.perf_counter_ns()
    sender.run(begin_ns)
    rows = sender.rows()
    assert sorted(asked) == list(range(len(due)))
    assert sorted(rows[:, 0] - begin_ns) == due.tolist()
    assert np.all(rows[:, 1] >= rows[:, 0])
    assert sender.count == len(due)


def test_a_pause_delays_those_behind_it() -> None:
    """While one answer is waited for, requests that are due count their waiting: no pause is
    hidden by not asking."""

    def ask(_: int, number: int) -> tuple[int, int]:
        if number == 0:
            time.sleep(0.05)  # the pause that is measured
        return OK, -1

    sender = open_loop(ask, [0, 1_000_000, 2_000_000], in_flight=1)
    sender.run(time.perf_counter_ns())
    due, sent, done = sender.rows()[:, :3].T
    assert np.all(done - due > 40_000_000)
    assert np.all((done - sent)[1:] < 40_000_000)


def test_requests_are_in_flight_together() -> None:
    """Four that wait for each other all get there: they were sent without an answer before."""
    together = threading.Barrier(4, timeout=20)

    def ask(_: int, __: int) -> tuple[int, int]:
        together.wait()
        return OK, -1

    sender = open_loop(ask, [0, 0, 0, 0])
    sender.run(time.perf_counter_ns())
    assert sender.count == 4


def test_what_waited_too_long_is_dropped_and_kept_as_that() -> None:
    """A request that is sent later than its time limit is none: it is dropped."""
    sender = open_loop(lambda *_: pytest.fail("asked"), [0, 1], give_up_ns=10**9)
    sender.run(time.perf_counter_ns() - 2 * 10**9)
    assert sender.rows()[:, 3].tolist() == [DROPPED, DROPPED]


def test_a_stop_ends_it_within_a_moment() -> None:
    """Told to stop, it sends nothing more and keeps what it has."""
    stop = threading.Event()

    def ask(_: int, __: int) -> tuple[int, int]:
        stop.set()
        return OK, -1

    sender = open_loop(ask, [0, 3600 * 10**9], stop=stop)
    sender.run(time.perf_counter_ns())
    assert sender.count == 1


def test_what_was_due_at_a_stop_is_not_forgotten() -> None:
    """Requests that waited behind one that hangs when it is stopped are dropped, not unasked."""
    stop = threading.Event()

    def ask(_: int, __: int) -> tuple[int, int]:
        stop.set()
        return OK, -1

    sender = open_loop(ask, [0, 1, 2, 3600 * 10**9], in_flight=1, stop=stop)
    sender.run(time.perf_counter_ns() - 1000)
    assert sender.rows()[:, 3].tolist() == [OK, DROPPED, DROPPED]


def test_a_defect_is_raised() -> None:
    """What is no answer and no error of ours ends the load."""

    def ask(_: int, __: int) -> tuple[int, int]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        open_loop(ask, [0, 1, 2]).run(time.perf_counter_ns())


def test_more_than_can_be_kept_is_not_asked() -> None:
    """The longest schedule is cut, and that is said."""
    sender = open_loop(lambda *_: (OK, -1), range(10), requests_max=4)
    sender.run(time.perf_counter_ns())
    assert (sender.count, sender.truncated) == (4, True)


def test_closed_loop_asks_one_after_the_other() -> None:
    """Each client sends when it was answered, until the time is over."""
    stop = threading.Event()
    sender = ClosedLoop(
        lambda *_: (OK, -1), clients=2, end_ns=3600 * 10**9, stop=stop, requests_max=100
    )
    sender.run(time.perf_counter_ns())
    rows = sender.rows()
    assert (len(rows), sender.truncated) == (100, True)
    for client in (rows[:50], rows[50:]):
        assert np.all(client[1:, 1] >= client[:-1, 2])
    assert np.array_equal(rows[:, 0], rows[:, 1])


def test_closed_loop_ends_with_its_time() -> None:
    """After the end nothing is sent."""
    sender = ClosedLoop(lambda *_: (OK, -1), clients=2, end_ns=0, stop=threading.Event())
    sender.run(time.perf_counter_ns())
    assert (sender.count, sender.truncated) == (0, False)
