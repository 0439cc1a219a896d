"""The states of all sequences of one loaded model, in slabs of the pool, within a budget."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import numpy as np

from device_agent.serving.sequences.mapping import (
    check_states,
    may_grow,
    rows_given,
    start_shape,
)
from device_agent.serving.sequences.values import Sequence
from edge_sdk.base import ResourceError, UnavailableError, UsageError
from edge_sdk.client import SequenceNotStartedError
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import STORAGE, Array, Session, Shape, shape_fits
from edge_sdk.manifest import TensorSpec
from edge_sdk.tensor_pool import Slab, TensorPool

WAITING_MAX = 64  # requests of one sequence behind the one that runs
_OWN_BYTES = 1024  # counted for each sequence beside its tensors: ids are limited, too
_GONE_MAX = 4096  # ids of which it is remembered why their state is gone

Id = int | str
WhenGone = Callable[[Callable[[], None]], bool]  # False: it is too late, nobody waits


class Owner(Protocol):
    """Who a run's outputs belong to (a slot of one run)."""

    def slab_of(self, array: Array) -> Slab | None: ...

    def give_away(self, slab: Slab) -> None: ...


class _State:
    """One sequence. ``arrays`` None: it has not started, or has ended. Whoever has the turn
    alone touches arrays and slabs; the rest is guarded by the lock of all."""

    __slots__ = ("arrays", "busy", "size_bytes", "slabs", "used_s", "waiting")

    def __init__(self) -> None:
        self.arrays: dict[str, Array] | None = None
        self.slabs: dict[str, Slab] = {}
        self.size_bytes = 0
        self.busy = False
        self.waiting: deque[threading.Lock] = deque()
        self.used_s = 0.0


class Turn:
    """One request of a sequence that has its turn. ``arrays`` by state input: what to run on;
    they must not be written to."""

    def __init__(self, states: SequenceStates, sequence: Sequence, state: _State) -> None:
        self.arrays: Mapping[str, Array] = {}
        self._states = states
        self._sequence = sequence
        self._state = state
        self._over = False

    def keep(self, outputs: Mapping[str, Array], owner: Owner | None = None) -> None:
        """The run went well: its outputs are the next state, and the next request may go on.

        ``owner``: of slabs with outputs that nobody else will look at: they are taken over
        instead of copied.
        Raises: ResourceError, EngineError (a shape that the model does not take); the state
        is then what it was.
        """
        if not self._sequence.end:
            self._states.replace(self._state, outputs, owner)
        else:
            self._states.drop(self._state)
        self.leave()

    def leave(self) -> None:
        """The next request of the sequence may go on. Again is allowed."""
        if not self._over:
            self._over = True
            self.arrays = {}
            self._states.hand_over(self._sequence.id, self._state)


class SequenceStates:
    """Of one generation: another artifact cannot go on from this one's states."""

    def __init__(
        self,
        model: str,
        session: Session,
        pool: TensorPool,
        states: Mapping[str, str],
        *,
        starts: Mapping[str, Shape],
        budget_bytes: int,
        idle_s: float,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``inputs`` and ``outputs`` are the signature without the states.

        Raises: RefusedError where the model's signature does not have such states.
        """
        check_states(states, starts, inputs=session.inputs, outputs=session.outputs)
        self.sources = dict(states)
        self.specs = {spec.name: spec for spec in session.inputs if spec.name in states}
        self.inputs = tuple(spec for spec in session.inputs if spec.name not in states)
        self.outputs = tuple(s for s in session.outputs if s.name not in states.values())
        self.grows = any(may_grow(spec) for spec in self.specs.values())
        self._model = model
        self._pool = pool
        self._starts = dict(starts)
        self._budget_bytes = budget_bytes
        self._idle_s = idle_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._states: OrderedDict[Id, _State] = OrderedDict()  # used longest ago first
        self._gone: OrderedDict[Id, str] = OrderedDict()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def __len__(self) -> int:
        return len(self._states)

    def knows(self, sequence_id: Id) -> bool:
        return sequence_id in self._states

    @contextmanager
    def turn(
        self,
        sequence: Sequence,
        given: Mapping[str, Shape],
        *,
        timeout_s: float | None = None,
        when_gone: WhenGone | None = None,
    ) -> Iterator[Turn]:
        """A request's turn in its sequence; one at a time, in the order of coming.

        ``given``: shapes of its inputs. ``when_gone`` registers what is to be called once
        nobody waits for it any more. Without ``keep`` the state stays what it was.
        Raises: SequenceNotStartedError; UnavailableError (too many wait, the time is over, or
        nobody waits); UsageError (another number of rows than the state has).
        """
        state = self._take(sequence, timeout_s, when_gone)
        turn = Turn(self, sequence, state)
        try:
            if sequence.start:
                turn.arrays = {name: self._begin(name, given) for name in self.sources}
            elif state.arrays is None:  # the request before it ended the sequence, or failed
                raise self._not_started(sequence.id)
            else:
                self._check_rows(state.arrays, given)
                turn.arrays = state.arrays
            yield turn
        finally:
            turn.leave()

    def check_given(self, given: Mapping[str, Shape]) -> None:
        """A request of no sequence must bring the states itself. Raises: UsageError."""
        if not self.sources.keys() <= given.keys():
            raise UsageError(
                f"inference request to model {self._model!r} must specify a non-zero or "
                f"non-empty correlation ID, or bring the states: {', '.join(self.sources)}"
            )

    def sweep(self) -> None:
        """Lets go what was idle for too long."""
        with self._lock:
            self._sweep(self._now_s())

    def end_all(self, successor: SequenceStates | None) -> None:
        """Another artifact serves from now on: tells its states why these sequences are gone."""
        with self._lock:
            known = list(self._states)
        if successor is not None:
            with successor._lock:
                for one in known:
                    if one not in successor._states:
                        successor._remember(one, "another version serves now")

    def close(self) -> None:
        """Releases everything. Only after the last request has left."""
        with self._lock:
            for state in self._states.values():
                self._release(state)
            self._states.clear()

    # -- for turns -----------------------------------------------------------------------

    def replace(self, state: _State, outputs: Mapping[str, Array], owner: Owner | None) -> None:
        """See ``Turn.keep``."""
        values = {name: outputs[source] for name, source in self.sources.items()}
        for name, array in values.items():
            self._check_next(self.specs[name], self.sources[name], array)
        taken = {} if owner is None else _takeable(values, owner)
        before = state.arrays or {}
        fresh: dict[str, Slab] = {}
        try:
            for name, array in values.items():
                same = name in before and before[name].shape == array.shape
                if name not in taken and not same:
                    fresh[name] = self._pool.acquire(array.nbytes)
            self._count(state, {**fresh, **taken})
        except BaseException:
            for slab in fresh.values():
                slab.release()
            raise
        state.arrays = None
        arrays = dict(before)
        for name, slab in {**fresh, **taken}.items():
            arrays.pop(name, None)  # before its slab: an array keeps a slab's memory in place
            if name in state.slabs:
                state.slabs.pop(name).release()
            kind = STORAGE[self.specs[name].dtype]
            arrays[name] = slab.array(kind, values[name].shape)
            state.slabs[name] = slab
            if owner is not None and name in taken:
                owner.give_away(slab)
        for name, array in values.items():
            if name not in taken:
                np.copyto(arrays[name], array)
        state.arrays = arrays

    def drop(self, state: _State) -> None:
        """The sequence has ended."""
        with self._lock:
            self._release(state)

    def hand_over(self, sequence_id: Id, state: _State) -> None:
        with self._lock:
            state.used_s = self._now_s()
            if state.waiting:
                state.waiting.popleft().release()
                return
            state.busy = False
            if state.arrays is None and self._states.get(sequence_id) is state:
                del self._states[sequence_id]

    # -- inside --------------------------------------------------------------------------

    def _take(
        self, sequence: Sequence, timeout_s: float | None, when_gone: WhenGone | None
    ) -> _State:
        with self._lock:
            self._sweep(self._now_s())
            state = self._states.get(sequence.id)
            if state is None:
                if not sequence.start:
                    raise self._not_started(sequence.id)
                state = self._states[sequence.id] = _State()
                self._gone.pop(sequence.id, None)
            self._states.move_to_end(sequence.id)
            if not state.busy:
                state.busy = True
                return state
            if len(state.waiting) >= WAITING_MAX:
                raise UnavailableError(
                    f"Exceeds maximum queue size of {WAITING_MAX} requests of one sequence"
                )
            gate = threading.Lock()
            gate.acquire()
            state.waiting.append(gate)
        self._wait(state, gate, timeout_s, when_gone)
        return state

    def _wait(
        self,
        state: _State,
        gate: threading.Lock,
        timeout_s: float | None,
        when_gone: WhenGone | None,
    ) -> None:
        """Until whoever has the turn opens the gate. Raises: UnavailableError."""
        gone = threading.Event()

        def leave() -> None:
            with self._lock:
                if gate in state.waiting:
                    state.waiting.remove(gate)
                    gone.set()
                    gate.release()

        # Without the lock: whoever calls ``leave`` may hold one of its own.
        if when_gone is not None and not when_gone(leave):
            leave()
        limit_s = -1 if timeout_s is None else min(max(timeout_s, 0), threading.TIMEOUT_MAX)
        if not gate.acquire(timeout=limit_s):
            with self._lock:
                if gate in state.waiting:
                    state.waiting.remove(gate)
                    raise UnavailableError(
                        "Request timeout expired while another of its sequence ran"
                    )
        if gone.is_set():
            raise UnavailableError("nobody waits for this request any more")

    def _begin(self, name: str, given: Mapping[str, Shape]) -> Array:
        spec = self.specs[name]
        shape = self._starts.get(name)
        if shape is None:
            shape = start_shape(spec, self.inputs, given)
        return np.zeros(shape, STORAGE[spec.dtype])

    def _check_rows(self, arrays: Mapping[str, Array], given: Mapping[str, Shape]) -> None:
        """Where it is not the model that fails, nobody may hold it against the model."""
        for name, array in arrays.items():
            if name in self._starts or name in given:
                continue
            rows = rows_given(self.specs[name], self.inputs, given)
            if rows is not None and array.shape[0] != rows:
                raise UsageError(
                    f"a request of {rows} rows in a sequence that began with {array.shape[0]}"
                )

    def _check_next(self, spec: TensorSpec, source: str, array: Array) -> None:
        if not shape_fits(spec.shape, array.shape):
            raise EngineError(
                f"output {source!r} has shape {list(array.shape)}; as the next value of state "
                f"{spec.name!r} the model expects {list(spec.shape)}"
            )

    def _count(self, state: _State, fresh: Mapping[str, Slab]) -> None:
        """Makes room for the slabs to come. Raises: ResourceError."""
        kept = {**state.slabs, **fresh}
        size_bytes = _OWN_BYTES + sum(slab.class_bytes for slab in kept.values())
        with self._lock:
            for one, other in list(self._states.items()):
                if self._size_bytes - state.size_bytes + size_bytes <= self._budget_bytes:
                    break
                if not other.busy:
                    self._forget(one, "the states of other sequences needed its memory")
            if self._size_bytes - state.size_bytes + size_bytes > self._budget_bytes:
                raise ResourceError(
                    f"the state of a sequence needs {size_bytes} bytes; all of {self._model!r} "
                    f"may have {self._budget_bytes}"
                )
            self._size_bytes += size_bytes - state.size_bytes
            state.size_bytes = size_bytes

    def _sweep(self, now_s: float) -> None:
        while self._states:
            one, state = next(iter(self._states.items()))
            if state.busy or now_s - state.used_s < self._idle_s:
                return
            self._forget(one, f"it was idle for {self._idle_s:g} s")

    def _forget(self, sequence_id: Id, why: str) -> None:
        self._release(self._states.pop(sequence_id))
        self._remember(sequence_id, why)

    def _remember(self, sequence_id: Id, why: str) -> None:
        self._gone[sequence_id] = why
        self._gone.move_to_end(sequence_id)
        while len(self._gone) > _GONE_MAX:
            self._gone.popitem(last=False)

    def _release(self, state: _State) -> None:
        state.arrays = None
        while state.slabs:
            state.slabs.popitem()[1].release()
        self._size_bytes -= state.size_bytes
        state.size_bytes = 0

    def _not_started(self, sequence_id: Id) -> SequenceNotStartedError:
        why = self._gone.get(sequence_id, "")
        return SequenceNotStartedError(
            f"inference request for sequence {sequence_id} to model {self._model!r} must specify "
            "the START flag on the first request of the sequence"
            + (f"; its state was let go: {why}" if why else ""),
            sequence=sequence_id,
            why=why,
        )


def _takeable(values: Mapping[str, Array], owner: Owner) -> dict[str, Slab]:
    found = {name: owner.slab_of(array) for name, array in values.items()}
    return {name: slab for name, slab in found.items() if slab is not None}
