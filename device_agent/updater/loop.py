"""The updater's one thread: everything that decides or writes runs here, call after call.

Other threads (links, local API, a trial that is waited for) hand their results over as
calls. So no store write is ever made from two threads, and no state needs a lock.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

from edge_sdk.base import ResourceError, UnavailableError

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
    """Runs calls until ``stop``. ``on_short`` hears what a call failed with for want of room;
    any other failure ends the loop."""

    def __init__(self, on_short: Callable[[ResourceError], None] | None = None) -> None:
        self._on_short = on_short
        # Not a SimpleQueue: on CPython 3.10 its get with a timeout now and then waits for ever
        # under load (measured: once in some 300 updates on a busy machine). A pipe wakes also
        # from a signal handler, which may hold no lock.
        self._calls: deque[Call] = deque()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        weakref.finalize(self, _close, self._wake_reader, self._wake_writer)
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopping = False
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="updater-background")

    # -- from any thread -----------------------------------------------------------------

    def put(self, call: Call) -> None:
        """Safe in a signal handler."""
        self._calls.append(call)
        with contextlib.suppress(BlockingIOError):  # full: it will wake anyway
            os.write(self._wake_writer, b"\0")

    def stop(self) -> None:
        """Safe in a signal handler."""
        self.put(self._stop)

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
        except FutureTimeoutError:  # not the builtin one before Python 3.11
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
            if not self._calls:
                self._sleep()
            self._fire()
            if self._calls:
                self._make(self._calls.popleft())
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _sleep(self) -> None:
        """Until somebody puts a call, or a timer is due."""
        if select.select([self._wake_reader], [], [], self._wait_s())[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_reader, 4096)

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
                self._make(timer.call)

    def _make(self, call: Call) -> None:
        try:
            call()
        except ResourceError as error:
            if self._on_short is None:
                raise
            self._on_short(error)


def _close(*handles: int) -> None:
    for handle in handles:
        os.close(handle)
