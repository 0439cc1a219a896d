"""Copies of requests, run on two loaded versions off the request path, and compared.

A request's thread only copies its inputs, and not even that where the mirror is behind: then
the request is counted as dropped. Both runs are made here, one after the other in alternating
order on memory of the mirror's own, so that their times are a pair. Its thread has low
priority, unless the engine runs one request of a model at a time.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from device_agent.serving import memory
from device_agent.serving.agreement import agree
from device_agent.serving.generation import Generation
from edge_sdk.base import EdgeError
from edge_sdk.engines.contract import Array, Binding, Session
from edge_sdk.manifest import Tolerance

PENDING_MAX = 8
PENDING_BYTES_MAX = 64 << 20
_SHAPES_KEPT_MAX = 4  # sets of shapes with a binding; the one unused longest goes first
_PAIRS_MAX = 2_000  # between two observations
_REST = 3  # times as long as it worked: cores and the interpreter's lock are the requests'

Inputs = Mapping[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Totals. ``runs``: requests that were run here; of those where neither side failed
    (``compared``), ``agreed`` gave the same."""

    runs: int = 0
    before_errors: int = 0
    candidate_errors: int = 0
    compared: int = 0
    agreed: int = 0
    rows: int = 0
    rows_agreed: int = 0
    dropped: int = 0
    difference_max: float = 0.0


class Mirror:
    """For one candidate beside one version that serves. ``close`` before either goes."""

    def __init__(
        self, before: Generation, candidate: Generation, tolerances: Mapping[str, Tolerance]
    ) -> None:
        self._specs = before.session.outputs
        self._tolerances = tolerances
        self._before = _Side(before)
        self._candidate = _Side(candidate)
        self._lock = threading.Lock()
        self._pending: queue.Queue[Inputs | None] = queue.Queue()
        self._pending_bytes = 0
        self._dropped = 0
        self._closed = threading.Event()
        self._sum = Compared()
        self._times: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._work, name="mirror", daemon=True)
        self._thread.start()

    def offer(self, inputs: Inputs) -> None:
        """Called by a request's thread while its inputs are in place."""
        size_bytes = sum(array.nbytes for array in inputs.values())
        with self._lock:
            full = self._pending.qsize() >= PENDING_MAX
            if (
                full
                or self._closed.is_set()
                or self._pending_bytes + size_bytes > PENDING_BYTES_MAX
            ):
                self._dropped += 1
                return
            self._pending_bytes += size_bytes
        self._pending.put({name: array.copy() for name, array in inputs.items()})

    def compared(self) -> Compared:
        return replace(self._sum, dropped=self._dropped)

    def take_times(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Nanoseconds of both sides since the last time, as pairs: before, candidate."""
        with self._lock:
            times, self._times = self._times, []
        return tuple(one for one, _ in times), tuple(one for _, one in times)

    def close(self) -> None:
        """Ends with the request at hand; both sides are free afterwards. Again is allowed."""
        with self._lock:
            self._closed.set()
        self._pending.put(None)
        self._thread.join()

    def _work(self) -> None:
        sides = [self._before, self._candidate]
        # Where runs of a session wait for each other, a request may wait for one that is made
        # here: it must not be one that others of normal priority hold up.
        if not any(side.one_at_a_time for side in sides):
            memory.lower_priority()
        worked_s = 0.0
        while not self._closed.wait(_REST * worked_s):
            inputs = self._pending.get()
            if inputs is None:
                break
            with self._lock:
                self._pending_bytes -= sum(array.nbytes for array in inputs.values())
            begin_s = time.monotonic()
            sides.reverse()  # who comes second finds the caches of who came first
            try:
                for side in sides:
                    side.run(inputs)
                self._note()
            except Exception as error:  # noqa: BLE001 - a defect costs one comparison
                sys.stderr.write("inference: a defect of ours in a comparison\n")
                traceback.print_exception(error)
            worked_s = time.monotonic() - begin_s
        for side in sides:
            side.forget()

    def _note(self) -> None:
        before, candidate = self._before, self._candidate
        seen, was = None, self._sum
        if before.outputs is not None and candidate.outputs is not None:
            seen = agree(self._specs, self._tolerances, before.outputs, candidate.outputs)
            with self._lock:
                if len(self._times) < _PAIRS_MAX:
                    self._times.append((before.elapsed_ns, candidate.elapsed_ns))
        self._sum = Compared(
            runs=was.runs + 1,
            before_errors=was.before_errors + (before.outputs is None),
            candidate_errors=was.candidate_errors + (candidate.outputs is None),
            compared=was.compared + (seen is not None),
            agreed=was.agreed + (seen is not None and seen.same),
            rows=was.rows + (seen.rows if seen else 0),
            rows_agreed=was.rows_agreed + (seen.rows_same if seen else 0),
            difference_max=max(was.difference_max, seen.difference if seen else 0.0),
        )


class _Side:
    """One version's bindings, by shapes of inputs. ``outputs`` None: the last run failed."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self.one_at_a_time: bool = getattr(generation.session, "one_at_a_time", False)
        self._bound: OrderedDict[object, tuple[dict[str, Array], Binding]] = OrderedDict()
        self.outputs: Mapping[str, Array] | None = None
        self.elapsed_ns = 0

    def run(self, inputs: Inputs) -> None:
        self.outputs = None
        try:
            arrays, binding = self._binding(inputs)
            for name, array in inputs.items():
                np.copyto(arrays[name], array)
            begin_ns = time.perf_counter_ns()
            self.outputs = binding.run()
            self.elapsed_ns = time.perf_counter_ns() - begin_ns
        except EdgeError:
            self.outputs = None

    def forget(self) -> None:
        """Bindings, and outputs that look into them, keep a session in memory."""
        self.outputs = None
        self._bound.clear()

    def _binding(self, inputs: Inputs) -> tuple[dict[str, Array], Binding]:
        key = tuple((name, inputs[name].shape) for name in sorted(inputs))
        if key not in self._bound:
            arrays = {name: array.copy() for name, array in inputs.items()}
            binding = self._generation.session.bind(arrays, {})
            binding.run()  # the first is as no later one
            self._bound[key] = arrays, binding
            if len(self._bound) > _SHAPES_KEPT_MAX:
                self._bound.popitem(last=False)
        self._bound.move_to_end(key)
        return self._bound[key]


def can_stand_in(before: Session, candidate: Session) -> bool:
    """Whether every request that fits ``before`` fits ``candidate``, its outputs included."""
    inputs = {spec.name: spec for spec in candidate.inputs}
    outputs = {spec.name: spec.dtype for spec in candidate.outputs}
    return (
        inputs.keys() == {spec.name for spec in before.inputs}
        and all(
            spec.dtype == inputs[spec.name].dtype
            and len(spec.shape) == len(inputs[spec.name].shape)
            and all(
                wanted in (-1, size)
                for wanted, size in zip(inputs[spec.name].shape, spec.shape, strict=True)
            )
            for spec in before.inputs
        )
        and all(outputs.get(spec.name) == spec.dtype for spec in before.outputs)
    )
