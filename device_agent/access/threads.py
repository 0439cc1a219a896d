"""The threads that answer calls: woken one by one, the last to rest first.

``ThreadPoolExecutor`` makes a future with a condition for every call and wakes whichever
thread has rested longest; here a call costs one lock, and its thread's memory is still warm.

A synchronous server of gRPC gives a call its thread before its request is here, and waits for
that without end: a client that opens calls and sends nothing would take every thread. Such
calls keep theirs only while no other call wants it, and callers that are told apart wait in
lines of their own.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from device_agent.access.limits import REQUEST_S
from edge_sdk.base import BusyError

Then = Callable[[Any], object]
_AGAIN_S = 1.0
_HURRY = 10  # so much shorter is patience where most threads wait for requests


class _Here(threading.local):
    """Of this thread: what it works on; whose call it hands in next, and whether as refused."""

    worker: _Worker | None = None
    caller = ""
    refused = False


_here = _Here()


def heard() -> float:
    """A handler says this first: the request of its thread's call is here. The seconds that it
    was awaited."""
    worker = _here.worker
    if worker is None or worker.task is None:
        return 0.0
    worker.task.heard = True
    return time.monotonic() - worker.task.begun_s


def refuse_here() -> None:
    """The call that this thread hands in next is only to be told no: it takes no other thread."""
    _here.refused = True


class Task:
    """What was handed in. ``add_done_callback`` is all of a future that gRPC uses."""

    __slots__ = ("_act", "_arguments", "_over", "_then", "begun_s", "caller", "heard")

    def __init__(
        self, act: Callable[..., object], arguments: tuple[Any, ...], caller: str = ""
    ) -> None:
        self._act = act
        self.caller = caller
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


class _Line:
    """Tasks that wait: each caller's in order, and of the callers one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, deque[Task]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, task: Task) -> None:
        with self._lock:
            self._tasks.setdefault(task.caller, deque()).append(task)
            self._count += 1

    def popleft(self) -> Task:
        """Raises: IndexError."""
        if not self._count:
            raise IndexError
        with self._lock:
            if not self._count:
                raise IndexError
            caller = next(iter(self._tasks))
            tasks = self._tasks.pop(caller)
            task = tasks.popleft()
            if tasks:
                self._tasks[caller] = tasks  # behind the others
            self._count -= 1
            return task


class _Worker:
    __slots__ = ("task", "wake")

    def __init__(self, task: Task | None) -> None:
        self.task = task
        self.wake = threading.Lock()
        self.wake.acquire()


class DoorThreads:
    """At most ``threads_max``, started as they are needed. ``submit`` is one thread's to call."""

    def __init__(
        self, threads_max: int, *, name: str, each_max: int = 1 << 20, patience_s: float = REQUEST_S
    ) -> None:
        """``each_max``: of a caller's calls, those that wait included. ``patience_s``: how long a
        request may be awaited where others wait for the thread."""
        self._each_max = each_max
        self._calls: Counter[str] = Counter()  # of those that are told apart
        self._counting = threading.Lock()
        self._threads_max = threads_max
        self._name = name
        self._patience_s = patience_s
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._waiting = _Line()
        self._watching = threading.Lock()  # held while somebody looks at those that are silent

    @property
    def silent(self) -> int:
        """Calls that have a thread, and no request yet."""
        return len(self._silent())

    def admit(self, caller: str) -> None:
        """The call that this thread hands in next is ``caller``'s. Raises: BusyError."""
        if self._calls[caller] >= self._each_max:
            message = f"{self._each_max} calls of this app are under way already"
            raise BusyError(message, retry_after_s=_AGAIN_S)
        _here.caller = caller

    def submit(self, act: Callable[..., object], /, *arguments: Any) -> Task:
        task = Task(act, arguments, _here.caller)
        if _here.refused:
            _here.refused, _here.caller = False, ""
            task.run()
            return task
        if task.caller:
            _here.caller = ""
            self._count(task, 1)
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

    def _count(self, task: Task, change: int) -> None:
        with self._counting:
            self._calls[task.caller] += change
            if not self._calls[task.caller]:
                del self._calls[task.caller]

    def _silent(self) -> list[Task]:
        tasks = [worker.task for worker in list(self._workers)]
        return [one for one in tasks if one is not None and one.begun_s and not one.heard]

    def _watch(self) -> None:
        """Calls that are silent for too long give way, now and for as long as others wait."""
        if not self._watching.acquire(blocking=False):
            return
        silent, patience_s = self._silent(), self._patience_s
        if 2 * len(silent) >= self._threads_max:
            patience_s /= _HURRY
        before_s = time.monotonic() - patience_s
        for task in silent:
            if task.begun_s < before_s:
                task.cancel()
        timer = threading.Timer(patience_s, self._watch_on)
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
            if task.caller:
                self._count(task, -1)
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
