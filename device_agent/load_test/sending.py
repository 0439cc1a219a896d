"""Sends requests when they are due, or one after the other; keeps what became of each.

Threads take turns: one waits for the next arrival while the others wait for answers or for
their turn. Who waited sends itself, so no request is handed from thread to thread.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable

import numpy as np

from device_agent.load_test.loads import REQUESTS_MAX
from device_agent.load_test.measured import DROPPED, OK, Numbers, joined

# A request by its number to (outcome, right), as in ``measured``.
Ask = Callable[[int, int], tuple[int, int]]

_AFTER_ERROR_S = 0.01  # a client that is refused at once does not ask again at once
_NAP_S = 0.1  # how long a thread sleeps before it looks whether it is to stop


class Sender:
    """Common to both ways. ``ask(thread, number)`` is called by several threads at once."""

    def __init__(self, ask: Ask, *, stop: threading.Event, requests_max: int) -> None:
        self._ask = ask
        self._stop = stop
        self._requests_max = requests_max
        self._kept: list[array[int]] = []
        self._error: BaseException | None = None
        self.truncated = False

    @property
    def count(self) -> int:
        """Requests that have ended so far."""
        return sum(map(len, tuple(self._kept))) // 5

    def rows(self) -> Numbers:
        return joined([np.array(part, np.int64) for part in self._kept])

    def _run_threads(self, work: Callable[[int, array[int]], None], count: int) -> None:
        """Returns when all have ended. Raises what one of them raised."""
        threads = []
        for number in range(count):
            kept: array[int] = array("q")
            self._kept.append(kept)
            threads.append(
                threading.Thread(target=self._guard, args=(work, number, kept), daemon=True)
            )
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _guard(
        self, work: Callable[[int, array[int]], None], number: int, kept: array[int]
    ) -> None:
        try:
            work(number, kept)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for the threads
            self._error = error
            self._stop.set()


class OpenLoop(Sender):
    """Requests at the times of a schedule, at most ``in_flight`` of them at the same time.

    One that is due while as many are in flight is sent later, and its latency counts from
    when it was due. One that waited longer than ``give_up_ns`` is dropped.
    """

    def __init__(
        self,
        ask: Ask,
        schedule_ns: Numbers,
        *,
        in_flight: int,
        give_up_ns: int,
        stop: threading.Event,
        requests_max: int = REQUESTS_MAX,
    ) -> None:
        super().__init__(ask, stop=stop, requests_max=requests_max)
        self.truncated = len(schedule_ns) > requests_max
        self._due = schedule_ns[:requests_max].tolist()
        self._in_flight = in_flight
        self._give_up_ns = give_up_ns
        self._lead = threading.Lock()
        self._next = 0
        self._begin_ns = 0

    def run(self, begin_ns: int) -> None:
        """``begin_ns`` on the clock of ``time.perf_counter_ns``."""
        self._begin_ns = begin_ns
        self._run_threads(self._work, min(self._in_flight, len(self._due)))
        self._drop_unsent()

    def _work(self, thread: int, kept: array[int]) -> None:
        while True:
            with self._lead:
                number = self._next
                if number >= len(self._due):
                    return
                due_ns = self._begin_ns + self._due[number]
                if not _wait_until(due_ns, self._stop):
                    return
                self._next += 1
            sent_ns = time.perf_counter_ns()
            if sent_ns - due_ns > self._give_up_ns:
                kept.extend((due_ns, sent_ns, sent_ns, DROPPED, -1))
                continue
            outcome, right = self._ask(thread, number)
            kept.extend((due_ns, sent_ns, time.perf_counter_ns(), outcome, right))

    def _drop_unsent(self) -> None:
        """What was due and not sent when it was told to stop would else be as never wanted."""
        now_ns = time.perf_counter_ns()
        kept: array[int] = array("q")
        for due in self._due[self._next :]:
            due_ns = self._begin_ns + due
            if due_ns > now_ns:
                break
            kept.extend((due_ns, now_ns, now_ns, DROPPED, -1))
        self._kept.append(kept)


class ClosedLoop(Sender):
    """``clients`` that each ask again as soon as they are answered."""

    def __init__(
        self,
        ask: Ask,
        *,
        clients: int,
        end_ns: int,
        stop: threading.Event,
        requests_max: int = REQUESTS_MAX,
    ) -> None:
        """``end_ns``: after the begin."""
        super().__init__(ask, stop=stop, requests_max=requests_max)
        self._clients = clients
        self._end_ns = end_ns

    def run(self, begin_ns: int) -> None:
        self._each_max = max(1, self._requests_max // self._clients)
        self._until_ns = begin_ns + self._end_ns
        self._begin_ns = begin_ns
        self._run_threads(self._work, self._clients)

    def _work(self, thread: int, kept: array[int]) -> None:
        if not _wait_until(self._begin_ns, self._stop):
            return
        for number in range(thread, self._each_max * self._clients, self._clients):
            sent_ns = time.perf_counter_ns()
            if sent_ns >= self._until_ns or self._stop.is_set():
                return
            outcome, right = self._ask(thread, number)
            kept.extend((sent_ns, sent_ns, time.perf_counter_ns(), outcome, right))
            if outcome > OK:
                self._stop.wait(_AFTER_ERROR_S)
        self.truncated = True


def _wait_until(due_ns: int, stop: threading.Event) -> bool:
    """False: it is to stop."""
    while not stop.is_set():
        left_s = (due_ns - time.perf_counter_ns()) / 1e9
        if left_s <= 0:
            return True
        time.sleep(min(left_s, _NAP_S))
    return False
