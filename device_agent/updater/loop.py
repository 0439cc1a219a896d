"""The updater's one thread: everything that decides or writes runs here, call after call.

Other threads (links, local API, a trial that is waited for) hand their results over as
calls. So no store write is ever made from two threads, and no state needs a lock.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from edge_sdk.base import UnavailableError

T = TypeVar("T")
Call = Callable[[], None]

_WORKERS = 4


class Timer:
    """A call that is still to come; ``cancel`` makes it never come."""

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Runs calls until ``stop``."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopping = False
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="updater-background")

    # -- from any thread -----------------------------------------------------------------

    def put(self, call: Call) -> None:
        self._calls.put(call)

    def stop(self) -> None:
        """Safe in a signal handler."""
        self._calls.put(self._stop)

    def ask(self, call: Callable[[], T], *, timeout_s: float = 30.0) -> T:
        """Runs ``call`` on the loop's thread and waits for what it gives or raises.

        Raises: UnavailableError where the loop is busy for longer or has ended.
        """
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(call())
            except BaseException as error:  # noqa: BLE001 - belongs to who asked
                answer.set_exception(error)

        self.put(run)
        try:
            return answer.result(timeout_s)
        except TimeoutError:
            raise UnavailableError("the updater is busy or stopping; try again") from None

    # -- on the loop's thread ------------------------------------------------------------

    def later(self, delay_s: float, call: Call) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), timer))
        return timer

    def background(
        self, work: Callable[[], T], then: Callable[[T | None, Exception | None], None]
    ) -> None:
        """Runs ``work`` on another thread, then ``then(result, error)`` on this one."""

        def run() -> None:
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - handed to ``then``, which decides
                failed = error
                self.put(lambda: then(None, failed))
            else:
                self.put(lambda: then(result, None))

        if not self._stopping:
            self._pool.submit(run)

    def run(self) -> None:
        while not self._stopping:
            try:
                call = self._calls.get(timeout=self._wait_s())
            except queue.Empty:
                continue
            finally:
                self._fire()
            call()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _stop(self) -> None:
        self._stopping = True

    def _wait_s(self) -> float:
        if not self._timers:
            return 60.0
        return min(max(self._timers[0][0] - time.monotonic(), 0.0), 60.0)

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if timer.call is not None:
                timer.call()
