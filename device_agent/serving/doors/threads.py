"""The threads that answer calls: woken one by one, the last to rest first.

``ThreadPoolExecutor`` makes a future with a condition for every call and wakes whichever
thread has rested longest; here a call costs one lock, and its thread's memory is still warm.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

Then = Callable[[Any], object]


class Task:
    """What was handed in. ``add_done_callback`` is all of a future that gRPC uses."""

    __slots__ = ("_act", "_arguments", "_over", "_then")

    def __init__(self, act: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._act = act
        self._arguments = arguments
        self._over = False
        self._then: list[Then] = []

    def add_done_callback(self, then: Then) -> None:
        self._then.append(then)
        if self._over:
            self._tell()

    def run(self) -> None:
        try:
            self._act(*self._arguments)
        except BaseException as error:  # noqa: BLE001 - the thread goes on with the next
            traceback.print_exception(error)
        finally:
            self._over = True
            self._tell()

    def _tell(self) -> None:
        """Once for each, whichever thread comes first."""
        while self._then:
            try:
                then = self._then.pop()
            except IndexError:
                return
            then(self)


class _Worker:
    __slots__ = ("task", "wake")

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.wake = threading.Lock()
        self.wake.acquire()


class DoorThreads:
    """At most ``threads_max``, started as they are needed. ``submit`` is one thread's to call."""

    def __init__(
        self, threads_max: int, *, name: str, when_full: Callable[[], object] = lambda: None
    ) -> None:
        """``when_full`` is called where a task finds no thread."""
        self._when_full = when_full
        self._threads_max = threads_max
        self._name = name
        self._started = 0
        self._idle: list[_Worker] = []
        self._waiting: deque[Task] = deque()

    def submit(self, act: Callable[..., object], /, *arguments: Any) -> Task:
        task = Task(act, arguments)
        try:
            worker = self._idle.pop()
        except IndexError:
            if self._started >= self._threads_max or not self._start(task):
                self._waiting.append(task)
                self._wake_for_waiting()
                if self._waiting:
                    self._when_full()
            return task
        worker.task = task
        worker.wake.release()
        return task

    def close(self) -> None:
        """Ends the threads that rest; those at work end with it."""
        self._threads_max = 0
        while self._idle:
            worker = self._idle.pop()
            worker.task = None
            worker.wake.release()

    def _start(self, task: Task) -> bool:
        """False: the machine gives no more threads, and those that there are must do.

        Raises: RuntimeError where there are none.
        """
        thread = threading.Thread(
            target=self._work,
            args=(_Worker(task),),
            name=f"{self._name}_{self._started + 1}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            if not self._started:
                raise
            return False
        self._started += 1
        return True

    def _wake_for_waiting(self) -> None:
        """A worker that came to rest just now did not see what waits."""
        while self._waiting and self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:
                return
            try:
                worker.task = self._waiting.popleft()
            except IndexError:
                self._idle.append(worker)
                return
            worker.wake.release()

    def _work(self, worker: _Worker) -> None:
        task = worker.task
        while task is not None:
            task.run()
            worker.task = task = None
            try:
                task = self._waiting.popleft()
            except IndexError:
                if not self._threads_max:
                    return
                self._idle.append(worker)
                if self._waiting:
                    self._wake_for_waiting()
                if not self._threads_max:  # closed in this moment
                    self.close()
                worker.wake.acquire()
                task = worker.task
