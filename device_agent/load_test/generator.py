"""``python -m device_agent.load_test.generator``: one load, in a process of its own.

Reads one JSON document (an Order) as its first line of standard input and says ``ready`` once
the model has answered; the next line is when to begin. It stops at the end of its time, or
when standard input ends. Says on standard output, a JSON document a line, how far it is, and
writes its samples to the file that the order names.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import msgspec
import numpy as np

from device_agent.load_test.arrivals import schedule_ns
from device_agent.load_test.loads import PRIORITIES
from device_agent.load_test.measured import OK, RIGHT_SCALE
from device_agent.load_test.messages import Order, Said
from device_agent.load_test.requests import (
    Array,
    Request,
    file_requests,
    right_among,
    seeded_requests,
)
from device_agent.load_test.sending import ClosedLoop, OpenLoop
from edge_sdk.base import EdgeError, UsageError
from edge_sdk.client import Client, Model, SequenceStep, connect

_CLIENT_THREADS = 16  # as many lanes as a client keeps open
_SAY_EVERY_S = 0.5
_PR_SET_TIMERSLACK = 29


class Sequences:
    """The next step of each thread's sequence; each has ``length`` requests."""

    def __init__(self, length: int, threads: int) -> None:
        self._length = length
        self._ids = [0] * threads
        self._done = [0] * threads

    def next(self, thread: int) -> SequenceStep:
        done = self._done[thread]
        if done == 0:
            self._ids[thread] = secrets.randbits(60) + 1  # that of no other process
        self._done[thread] = (done + 1) % self._length
        return SequenceStep(id=self._ids[thread], start=done == 0, end=self._done[thread] == 0)

    def break_off(self, thread: int) -> None:
        """The agent may have no state of it any more: the next request begins another."""
        self._done[thread] = 0


class Asker:
    """Asks one model, in turn with each of the requests; for many threads."""

    def __init__(self, order: Order) -> None:
        """Raises: what a first request raises."""
        load = order.load
        threads = load.in_flight if load.is_open else load.clients
        self._clients = [_connect(order) for _ in range(-(-threads // _CLIENT_THREADS))]
        self._models: list[Model] = [one.model(load.model) for one in self._clients]
        self._load = load
        self._deadline_s = load.deadline_ms / 1000
        self._priority = PRIORITIES[load.priority]
        self._requests = _requests(order, self._models[0])
        self._lock = threading.Lock()
        self._kinds: dict[str, int] = {}
        self.first_errors: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self._sequences = Sequences(load.sequence, threads) if load.sequence else None
        firsts = [self._once(model, 0, self._alone()) for model in self._models]
        self._output = self._labelled_output(firsts[0][1])

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    def ask(self, thread: int, number: int) -> tuple[int, int]:
        request = self._requests[number % len(self._requests)]
        step = self._sequences.next(thread) if self._sequences is not None else None
        try:
            version, outputs = self._once(self._models[thread // _CLIENT_THREADS], number, step)
        except EdgeError as error:
            if self._sequences is not None:
                self._sequences.break_off(thread)
            return self._failed(error), -1
        # Not under the lock: the switch of a version may lose a count or two of thousands.
        self.versions[version] = self.versions.get(version, 0) + 1
        if request.labels is None:
            return OK, -1
        share = right_among(outputs[self._output], request.labels, top_k=self._load.top_k)
        return OK, round(share * RIGHT_SCALE)

    def close(self) -> None:
        for client in self._clients:
            client.close()

    def _alone(self) -> SequenceStep | None:
        """A sequence of one request, where the model has any."""
        return None if self._sequences is None else Sequences(1, 1).next(0)

    def _once(
        self, model: Model, number: int, step: SequenceStep | None
    ) -> tuple[str, dict[str, Array]]:
        request = self._requests[number % len(self._requests)]
        result = model.infer(
            request.inputs,
            deadline_s=self._deadline_s,
            priority=self._priority,
            sequence=step,
        )
        return result.version, dict(result.outputs)

    def _failed(self, error: EdgeError) -> int:
        with self._lock:
            self.first_errors.setdefault(error.reason, error.message)
            return self._kinds.setdefault(error.reason, len(self._kinds) + 1)

    def _labelled_output(self, outputs: dict[str, Array]) -> str:
        """Raises: UsageError where it cannot be told which output the labels are about."""
        wanted = self._load.output
        if not self._load.labels or wanted in outputs:
            return wanted
        if wanted or len(outputs) != 1:
            raise UsageError(
                f"load {self._load.name!r}: output=NAME must be one of {sorted(outputs)}"
            )
        return next(iter(outputs))


def _connect(order: Order) -> Client:
    return connect(order.agent or None, order.inference or None, fast_lane=order.fast_lane)


def _requests(order: Order, model: Model) -> tuple[Request, ...]:
    load = order.load
    path = load.labels or load.inputs
    if not path:
        return seeded_requests(model.inputs, seed=order.seed, batch=load.batch, count=load.distinct)
    return file_requests(Path(path), model.inputs, batch=load.batch, labelled=bool(load.labels))


def _sender(order: Order, asker: Asker, stop: threading.Event) -> OpenLoop | ClosedLoop:
    load, whole_s = order.load, order.warm_up_s + order.duration_s
    if load.is_open:
        due = schedule_ns(load.rate_hz, whole_s, arrivals=load.arrivals, seed=order.seed)
        return OpenLoop(
            asker.ask,
            due,
            in_flight=load.in_flight,
            give_up_ns=int(load.deadline_ms * 1e6),
            stop=stop,
        )
    return ClosedLoop(asker.ask, clients=load.clients, end_ns=int(whole_s * 1e9), stop=stop)


def _say(said: Said) -> None:
    with contextlib.suppress(BrokenPipeError):  # who asked is gone; standard input ends too
        sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
        sys.stdout.buffer.flush()


def _keep_saying(sender: OpenLoop | ClosedLoop, over: threading.Event) -> None:
    while not over.wait(_SAY_EVERY_S):
        _say(Said(state="running", count=sender.count))


def _background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def _wait_for_end(stop: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    stop.set()


def generate(order: Order) -> None:
    """Raises: what keeps the load from being made at all."""
    asker = Asker(order)
    stop, over = threading.Event(), threading.Event()
    sender = _sender(order, asker, stop)
    _say(Said(state="ready"))
    line = sys.stdin.buffer.readline()
    if not line:
        return
    _background(lambda: _wait_for_end(stop))
    saying = _background(lambda: _keep_saying(sender, over))
    # Nothing here makes cycles by the request; a collection would look like a slow answer.
    gc.collect()
    gc.freeze()
    gc.disable()
    begin_ns = int(line)
    sender.run(begin_ns)
    over.set()
    saying.join()  # so that "done" is the last word
    with open(order.samples, "wb") as file:
        np.save(file, sender.rows())
    _say(
        Said(
            state="done",
            count=sender.count,
            versions=asker.versions,
            first_errors=asker.first_errors,
            kinds=asker.kinds,
            truncated=sender.truncated,
        )
    )
    asker.close()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us decides, and reads what we have
    # Sleeps end when they should, not up to 50 us later. Threads inherit it.
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    order = msgspec.json.decode(sys.stdin.buffer.readline(), type=Order)
    try:
        generate(order)
    except EdgeError as error:
        _say(Said(state="error", error=(error.reason, error.message)))


if __name__ == "__main__":
    main()
