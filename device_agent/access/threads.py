"""The threads that answer calls: woken one by one, the last to rest first.

``ThreadPoolExecutor`` makes a future with a condition for every call and wakes whichever
thread has rested longest; here a call costs one lock, and its thread's memory is still warm.

A synchronous server of gRPC gives a call its thread before its request is here, and waits for
that without end: a client that opens calls and sends nothing would take every thread. Such
calls keep theirs only while no other call wants it.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from device_agent.access.limits import REQUEST_S

Then = Callable[[Any], object]
_here = threading.local()


def heard() -> None:
    """A handler says this first: the request of its thread's call is here."""
    worker: _Worker | None = getattr(_here, "worker", None)
    if worker is not None and worker.task is not None:
        worker.task.heard = True


class Task:
    """What was handed in. ``add_done_callback`` is all of a future that gRPC uses."""

    __slots__ = ("_act", "_arguments", "_over", "_then", "begun_s", "heard")

    def __init__(self, act: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._act = act
        self._arguments = arguments
        self._over = False
        self._then: list[Then] = []
        self.begun_s = 0.0
        self.heard = False

    def add_done_callback(self, then: Then) -> None:
        self._then.append(then)
        if self._over:
            self._tell()

    def run(self) -> None:
        self.begun_s = time.monotonic()
        try:
            self._act(*self._arguments)
        except BaseException as error:  # noqa: BLE001 - the thread goes on with the next
            traceback.print_exception(error)
        finally:
            self._over = True
            self._tell()

    def cancel(self) -> None:
        """Ends the call. No handler runs yet, so there is no context to end it by: gRPC hands
        its event of the call in with the rest."""
        for one in self._arguments:
            call = getattr(one, "call", None)
            if call is not None:
                call.cancel()

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

    def __init__(self, threads_max: int, *, name: str, patience_s: float = REQUEST_S) -> None:
        """``patience_s``: how long a request may be awaited where others wait for the thread."""
        self._threads_max = threads_max
        self._name = name
        self._patience_s = patience_s
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._waiting: deque[Task] = deque()
        self._watching = threading.Lock()  # held while somebody looks at those that are silent

    @property
    def silent(self) -> int:
        """Calls that have a thread, and no request yet."""
        return len(self._silent())

    def submit(self, act: Callable[..., object], /, *arguments: Any) -> Task:
        task = Task(act, arguments)
        try:
            worker = self._idle.pop()
        except IndexError:
            if len(self._workers) >= self._threads_max or not self._start(task):
                self._waiting.append(task)
                self._wake_for_waiting()
                if self._waiting:
                    self._watch()
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
        worker = _Worker(task)
        thread = threading.Thread(
            target=self._work,
            args=(worker,),
            name=f"{self._name}_{len(self._workers) + 1}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            if not self._workers:
                raise
            return False
        self._workers.append(worker)
        return True

    def _silent(self) -> list[Task]:
        tasks = [worker.task for worker in list(self._workers)]
        return [one for one in tasks if one is not None and one.begun_s and not one.heard]

    def _watch(self) -> None:
        """Calls that are silent for too long give way, now and for as long as others wait."""
        if not self._watching.acquire(blocking=False):
            return
        before_s = time.monotonic() - self._patience_s
        for task in self._silent():
            if task.begun_s < before_s:
                task.cancel()
        timer = threading.Timer(self._patience_s, self._watch_on)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # the machine gives no thread: the next call that waits looks
            self._watching.release()

    def _watch_on(self) -> None:
        self._watching.release()
        if self._waiting and self._threads_max:
            self._watch()

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
        _here.worker = worker
        task = worker.task
        while task is not None:
            task.run()
            worker.task = task = None
            try:
                worker.task = task = self._waiting.popleft()
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
