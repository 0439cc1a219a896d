"""From tensors as they arrived to tensors to send: turn, buffers, run, in the caller's thread.

An idle engine runs at once; otherwise the caller waits for its turn, in bounded company and
for a bounded time. There is no scheduler thread: a hand-over costs more than a small run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from device_agent.serving.cache import Kept, RequestKey, ResponseCache, keep
from device_agent.serving.cache.request_key import Part
from device_agent.serving.cache.response_cache import WhenGone
from device_agent.serving.generation import Generation, Identity
from device_agent.serving.model_table import START_WAIT_S, ModelTable
from device_agent.serving.slots import BoundSlot
from edge_sdk.base import EdgeError, UnavailableError, UsageError
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import STORAGE, Array, Session, shape_fits
from edge_sdk.manifest.model import TensorSpec

WAITING_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenTensor:
    """An input as it arrived: ``data`` is its little-endian bytes, or an array.

    Bytes that are a view may change at any time: they are read once, into the slot.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes | memoryview | Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Outputs of one run, good only inside the block; ``identity`` says who computed them."""

    identity: Identity
    outputs: Mapping[str, Array]
    specs: Mapping[str, TensorSpec]


class Turns:
    """At most ``running_max`` runs at once; the others wait, at most ``WAITING_MAX`` of them."""

    def __init__(self, running_max: int) -> None:
        self._free = threading.Semaphore(running_max)
        self._lock = threading.Lock()
        self._waiting = 0

    def take(self, timeout_s: float | None) -> None:
        """Raises: UnavailableError (too many wait, or the time is over)."""
        if self._free.acquire(blocking=False):
            return
        with self._lock:
            if self._waiting >= WAITING_MAX:
                raise UnavailableError(f"Exceeds maximum queue size of {WAITING_MAX} requests")
            self._waiting += 1
        try:
            if not self._free.acquire(timeout=timeout_s):
                raise UnavailableError("Request timeout expired while it waited for its turn")
        finally:
            with self._lock:
                self._waiting -= 1

    def give(self) -> None:
        self._free.release()


class Dispatcher:
    """Runs requests on whatever the table says is active."""

    def __init__(self, table: ModelTable, *, running_max: int) -> None:
        self._table = table
        self._turns = Turns(running_max)

    @contextmanager
    def infer(
        self,
        model: str,
        version: str,
        inputs: Sequence[GivenTensor],
        *,
        wanted: Sequence[str] = (),
        timeout_s: float | None = None,
        when_gone: WhenGone | None = None,
    ) -> Iterator[Answer]:
        """One request. ``version`` empty: the active one; ``wanted`` empty: all outputs.

        ``when_gone`` registers what is to be called once nobody waits for the answer any more:
        only who waits for an identical request asks for it.
        Raises: NotFoundError, VersionNotActiveError, UsageError (tensors do not fit),
        UnavailableError (no turn), ResourceError (no memory), EngineError.
        """
        begin_ns = time.perf_counter_ns()
        wait_s = START_WAIT_S if timeout_s is None else min(timeout_s, START_WAIT_S)
        generation = self._table.enter(model, version, wait_s=wait_s)
        try:
            if generation.cache is None:
                with self._run(generation, inputs, wanted, timeout_s, begin_ns) as answer:
                    yield answer
            else:
                yield self._cached(
                    generation, inputs, wanted, timeout_s, cache=generation.cache, gone=when_gone
                )
        except EdgeError as error:
            generation.statistics.failed(
                whole_ns=time.perf_counter_ns() - begin_ns, engine=isinstance(error, EngineError)
            )
            raise
        finally:
            generation.leave()

    def _cached(
        self,
        generation: Generation,
        inputs: Sequence[GivenTensor],
        wanted: Sequence[str],
        timeout_s: float | None,
        *,
        cache: ResponseCache,
        gone: WhenGone | None,
    ) -> Answer:
        """From the cache, or run and copied out of its buffers."""
        begin_ns = began_ns = ended_ns = time.perf_counter_ns()
        given = [owned(tensor) for tensor in check_inputs(generation.session, inputs)]
        specs = check_wanted(generation.session, wanted)
        key = RequestKey(generation.identity.artifact, specs, [part_of(tensor) for tensor in given])

        def run(*, timeout_s: float | None, began: Callable[[], None]) -> Kept:
            nonlocal began_ns, ended_ns
            began_ns = time.perf_counter_ns()
            with self._run(generation, given, wanted, timeout_s, began_ns, began=began) as answer:
                kept = keep(answer.outputs)
            ended_ns = time.perf_counter_ns()
            return kept

        kept, source = cache.answer(key, run, timeout_s=timeout_s, when_gone=gone)
        whole_ns = time.perf_counter_ns() - begin_ns
        if source == "run":
            generation.statistics.missed(own_ns=whole_ns - (ended_ns - began_ns))
        else:
            generation.statistics.found(whole_ns=whole_ns)
        return Answer(
            identity=generation.identity,
            outputs={name: kept.outputs[name] for name in specs},
            specs=specs,
        )

    @contextmanager
    def _run(
        self,
        generation: Generation,
        inputs: Sequence[GivenTensor],
        wanted: Sequence[str],
        timeout_s: float | None,
        begin_ns: int,
        *,
        began: Callable[[], None] | None = None,
    ) -> Iterator[Answer]:
        given = check_inputs(generation.session, inputs)
        specs = check_wanted(generation.session, wanted)
        self._turns.take(timeout_s)
        turn_ns = time.perf_counter_ns()
        slot = None
        try:
            try:
                if began is not None:
                    began()
                slot = generation.slots.take([tensor.shape for tensor in given])
                fill(slot, given)
                filled_ns = time.perf_counter_ns()
                outputs = slot.run()
            finally:
                self._turns.give()
            done_ns = time.perf_counter_ns()
            yield Answer(
                identity=generation.identity,
                outputs={name: outputs[name] for name in specs},
                specs=specs,
            )
        finally:
            if slot is not None:
                generation.slots.put_back(slot)
        generation.statistics.succeeded(
            queue_ns=turn_ns - begin_ns,
            input_ns=filled_ns - turn_ns,
            infer_ns=done_ns - filled_ns,
            output_ns=time.perf_counter_ns() - done_ns,
        )


def owned(tensor: GivenTensor) -> GivenTensor:
    """With content that nobody else can change: where an input lies in memory of the caller,
    what was looked up and what is run could otherwise be two things."""
    if isinstance(tensor.data, bytes):
        return tensor
    if isinstance(tensor.data, memoryview):
        return replace(tensor, data=bytes(tensor.data))
    if tensor.data.dtype == object:
        return replace(tensor, data=np.array(tensor.data))
    kind = STORAGE[tensor.dtype]
    return replace(tensor, data=tensor.data.astype(kind, casting="same_kind", copy=False).tobytes())


def part_of(tensor: GivenTensor) -> Part:
    """An owned tensor as it is compared."""
    given = tensor.data
    data = tuple(given.flat) if isinstance(given, np.ndarray) else bytes(given)
    return (tensor.name, tensor.dtype, tuple(tensor.shape), data)


def check_inputs(session: Session, inputs: Sequence[GivenTensor]) -> list[GivenTensor]:
    """The inputs in the model's order. Raises: UsageError that says expected and got."""
    by_name = {tensor.name: tensor for tensor in inputs}
    if len(by_name) < len(inputs):
        raise UsageError("an input is given twice; each is needed once")
    known = [spec.name for spec in session.inputs]
    for name in by_name:
        if name not in known:
            raise UsageError(f"unexpected input {name!r}; the model's inputs are {known}")
    for spec in session.inputs:
        if spec.name not in by_name:
            raise UsageError(f"expected inputs {known}, got {sorted(by_name)}")
        _check_tensor(spec, by_name[spec.name])
    return [by_name[name] for name in known]


def _check_tensor(spec: TensorSpec, tensor: GivenTensor) -> None:
    if tensor.dtype != spec.dtype:
        raise UsageError(f"input {spec.name!r} is {tensor.dtype}; the model expects {spec.dtype}")
    if min(tensor.shape, default=0) < 0 or not shape_fits(spec.shape, tensor.shape):
        raise UsageError(
            f"unexpected shape for input {spec.name!r}: expected {list(spec.shape)}, got "
            f"{list(tensor.shape)}"
        )
    count = 1
    for size in tensor.shape:
        count *= size
    if isinstance(tensor.data, np.ndarray):
        if tensor.data.size != count:
            raise UsageError(
                f"input {spec.name!r} has {tensor.data.size} elements; its shape "
                f"{list(tensor.shape)} expects {count}"
            )
        return
    expected = count * STORAGE[spec.dtype].itemsize
    if len(tensor.data) != expected:
        raise UsageError(
            f"unexpected total byte size {len(tensor.data)} for input {spec.name!r}, expecting "
            f"{expected}"
        )


def check_wanted(session: Session, wanted: Sequence[str]) -> dict[str, TensorSpec]:
    """The outputs to answer with, in the order asked for. Raises: UsageError."""
    specs = {spec.name: spec for spec in session.outputs}
    for name in wanted:
        if name not in specs:
            raise UsageError(f"unexpected output {name!r}; the model's outputs are {list(specs)}")
    return {name: specs[name] for name in wanted} if wanted else specs


def fill(slot: BoundSlot, inputs: Sequence[GivenTensor]) -> None:
    """Copies checked inputs into a slot's buffers."""
    for tensor in inputs:
        array = slot.inputs[tensor.name]
        if isinstance(tensor.data, np.ndarray):
            np.copyto(array, tensor.data.reshape(array.shape))
        elif tensor.dtype == "bool":
            # Any byte may arrive, but only 0 and 1 are a bool to the engine.
            np.not_equal(np.frombuffer(tensor.data, np.uint8).reshape(array.shape), 0, out=array)
        else:
            np.copyto(array.reshape(-1), np.frombuffer(tensor.data, array.dtype))
