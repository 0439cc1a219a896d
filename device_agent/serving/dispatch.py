"""From tensors as they arrived to tensors to send: turn, buffers, run, in the caller's thread.

An idle engine runs at once; otherwise the request waits for its turn in the scheduler, which
may let requests of one model run as one. There is no scheduler thread: a hand-over costs more
than a small run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from device_agent.config import ModelConfig
from device_agent.serving.answer import Answer
from device_agent.serving.cache import Kept, RequestKey, ResponseCache, keep
from device_agent.serving.cache.request_key import Part
from device_agent.serving.generation import Generation
from device_agent.serving.model_table import START_WAIT_S, ModelTable
from device_agent.serving.repeated import Repeated
from device_agent.serving.request import (
    GivenTensor,
    Request,
    check_wanted,
    fill,
    owned,
    with_states,
)
from device_agent.serving.scheduling import Scheduler, WhenGone
from device_agent.serving.sequences import Sequence as SequenceOf
from device_agent.serving.together import run_observed, run_together
from edge_sdk.base import EdgeError, ResourceError, UnavailableError
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import Array

_now_ns = time.perf_counter_ns


class Dispatcher:
    """Runs requests on whatever the table says is active."""

    def __init__(
        self,
        table: ModelTable,
        *,
        running_max: int,
        models: Mapping[str, ModelConfig] | None = None,
    ) -> None:
        self._table = table
        self.scheduler = Scheduler(running_max=running_max, models=models)

    def infer(
        self,
        model: str,
        version: str,
        inputs: Sequence[GivenTensor],
        *,
        wanted: Sequence[str] = (),
        timeout_s: float | None = None,
        when_gone: WhenGone | None = None,
        priority: int = 0,
        sequence: SequenceOf | None = None,
    ) -> Answer:
        """``run`` for a request that comes once."""
        request = Request(
            model=model,
            version=version,
            inputs=inputs,
            wanted=wanted,
            priority=priority,
            sequence=sequence,
        )
        return self.run(request, timeout_s=timeout_s, when_gone=when_gone)

    def run(
        self,
        request: Request,
        *,
        timeout_s: float | None = None,
        when_gone: WhenGone | None = None,
    ) -> Answer:
        """The answer, which must be closed (it is a context manager).

        ``timeout_s`` bounds the wait for a turn. ``when_gone`` registers what is to be called
        once nobody waits for the answer any more: only a request that has to wait asks for it.
        Raises: NotFoundError, VersionNotActiveError, UsageError (tensors do not fit),
        SequenceNotStartedError, UnavailableError (no turn), ResourceError (no memory),
        EngineError.
        """
        begin_ns = _now_ns()
        wait_s = START_WAIT_S if timeout_s is None or timeout_s > START_WAIT_S else timeout_s
        generation = self._table.enter(
            request.model, request.version, sequence=request.sequence, wait_s=wait_s
        )
        try:
            if generation.states is not None:
                answer = self._in_sequence(generation, request, timeout_s, when_gone, begin_ns)
                answer.entered = True
                return answer
            request.fit(generation)
            if generation.cache is None:
                answer = self._run(generation, request, timeout_s, when_gone, begin_ns)
            else:
                answer = self._cached(generation, request, timeout_s, when_gone, generation.cache)
            answer.entered = True
            return answer
        except BaseException as error:
            if isinstance(error, EdgeError):
                generation.statistics.failed(
                    whole_ns=_now_ns() - begin_ns,
                    engine=isinstance(error, EngineError),
                    refused=isinstance(error, UnavailableError),
                )
            generation.leave()
            raise

    def answers_alone(self, answer: Answer) -> bool:
        """Whether requests as this one come to its generation only, and are not copied."""
        generation = answer._generation
        return generation.copies is None and self._table.answers_alone(generation)

    def repeated(
        self, request: Request, answer: Answer, places: Mapping[str, Array]
    ) -> Repeated | None:
        """For a request whose inputs are always in the same arrays and whose outputs are wanted
        in ``places``, where nothing but a run is to be done for it. ``answer``: to it, open.
        None: it is to be run as any other, also where there is no memory for buffers of its own.
        """
        generation = answer._generation
        special = generation.cache is not None or generation.states is not None
        if special or request.arrays is None or request.queue is None:
            return None
        repeated = Repeated(
            generation,
            request,
            table=self._table,
            scheduler=self.scheduler,
            queue=request.queue,
        )
        try:
            return repeated if repeated.begin(places) else None
        except ResourceError:
            return None

    def _in_sequence(
        self,
        generation: Generation,
        request: Request,
        timeout_s: float | None,
        when_gone: WhenGone | None,
        begin_ns: int,
    ) -> Answer:
        """Run on the state of its sequence, or on what it brings itself. Never from the cache."""
        states = generation.states
        assert states is not None
        answered = request.wanted or [spec.name for spec in states.outputs]
        specs = check_wanted(generation.session, answered)
        given = {tensor.name: tensor.shape for tensor in request.inputs}
        if request.sequence is None:
            states.check_given(given)
            whole = with_states(request, {}, generation)
            return self._run(generation, whole, timeout_s, when_gone, begin_ns).narrow(specs)
        with states.turn(request.sequence, given, timeout_s=timeout_s, when_gone=when_gone) as turn:
            # Buffers for each length that a state grows to would be many, and never used again.
            grows = states.grows and generation.copies is None
            borrow = grows and not request.sequence.start
            whole = with_states(request, turn.arrays, generation, borrow=borrow)
            if timeout_s is not None:
                timeout_s = max(0.0, timeout_s - (_now_ns() - begin_ns) / 1e9)
            answer = self._run(generation, whole, timeout_s, when_gone, begin_ns)
            asked = any(name in states.sources.values() for name in request.wanted)
            try:
                turn.keep(answer.outputs, answer.slot if borrow and not asked else None)
            except BaseException:
                answer.close()
                raise
        return answer.narrow(specs)

    def _cached(
        self,
        generation: Generation,
        request: Request,
        timeout_s: float | None,
        when_gone: WhenGone | None,
        cache: ResponseCache,
    ) -> Answer:
        """From the cache, or run and copied out of its buffers."""
        begin_ns = began_ns = ended_ns = _now_ns()
        copied = Request(
            model=request.model,
            version=request.version,
            inputs=[owned(tensor) for tensor in request.given],
            wanted=request.wanted,
            priority=request.priority,
        )
        copied.fit(generation)
        parts = [part_of(tensor) for tensor in copied.given]
        key = RequestKey(generation.identity.artifact, copied.specs, parts)

        def run(*, timeout_s: float | None, began: Callable[[], None]) -> Kept:
            nonlocal began_ns, ended_ns
            began_ns = _now_ns()
            copied.began = began
            # Others may come to wait for this run: it goes on without its caller.
            with self._run(generation, copied, timeout_s, None, began_ns) as answer:
                kept = keep(answer.outputs)
            ended_ns = _now_ns()
            return kept

        kept, source = cache.answer(key, run, timeout_s=timeout_s, when_gone=when_gone)
        whole_ns = _now_ns() - begin_ns
        if source == "run":
            generation.statistics.missed(own_ns=whole_ns - (ended_ns - began_ns))
        else:
            generation.statistics.found(whole_ns=whole_ns)
        return Answer(generation, {name: kept.outputs[name] for name in copied.specs}, copied.specs)

    def _run(
        self,
        generation: Generation,
        request: Request,
        timeout_s: float | None,
        when_gone: WhenGone | None,
        begin_ns: int,
    ) -> Answer:
        scheduler = self.scheduler
        queue = request.queue
        if queue is None:
            queue = request.queue = scheduler.queue(request.model)
        priority = request.priority or queue.priority
        costs = generation.batch_costs
        queue.batch_rows = 1 if costs is None else costs.best
        if not scheduler.enter(queue, priority):
            ticket = scheduler.wait(
                queue,
                priority,
                group=request.group,
                rows=request.rows,
                work=request,
                timeout_s=timeout_s,
                when_gone=when_gone,
            )
            together = run_together(scheduler, generation, request, ticket)
            if together is not None:
                return together.answer(generation, request, ticket.row, begin_ns)
        turn_ns = _now_ns()
        slot = None
        try:
            if request.began is not None:
                request.began()
            if request.borrowed is None:
                slot = generation.slots.take(request.shapes)
            else:
                slot = generation.slots.once(request.shapes, request.borrowed)
            if request.arrays is not None:
                inputs = slot.inputs
                for name, array in request.arrays:
                    inputs[name][...] = array
            else:
                for tensor in request.given:
                    fill(slot.inputs[tensor.name], tensor)
            costs = generation.batch_costs  # once: a run of others may take it away
            filled_ns = _now_ns()
            outputs = slot.run() if costs is None else run_observed(slot, costs, request.rows)
            done_ns = _now_ns()
        except BaseException:
            if slot is not None:
                generation.slots.put_back(slot)
            scheduler.leave(queue, priority, _now_ns() - turn_ns)
            raise
        scheduler.leave(queue, priority, done_ns - turn_ns)
        if request.wanted:
            outputs = {name: outputs[name] for name in request.specs}
        phases = (turn_ns - begin_ns, filled_ns - turn_ns, done_ns - filled_ns, 1, True)
        return Answer(generation, outputs, request.specs, slot=slot, phases=phases, done_ns=done_ns)


def part_of(tensor: GivenTensor) -> Part:
    """An owned tensor as it is compared."""
    given = tensor.data
    data = given if isinstance(given, bytes) else tuple(np.asarray(given).flat)
    return (tensor.name, tensor.dtype, tuple(tensor.shape), data)
