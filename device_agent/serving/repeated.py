"""A request that comes again and again from the same memory: nothing is looked up or made for it.

It has buffers of its own, lent by the generation, which takes them back when it goes. What it
leaves out of a request's way is all that was decided when it was made; turns, priorities,
statistics and the count of who is inside are as for any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from device_agent.serving.generation import Generation
from device_agent.serving.model_table import ModelTable
from device_agent.serving.request import Request
from device_agent.serving.scheduling import ModelQueue, Scheduler
from device_agent.serving.slots import BoundSlot
from edge_sdk.base import UsageError
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import Array

_now_ns = time.perf_counter_ns


class Repeated:
    """Used by one thread. ``over``: it never runs again, ask the dispatcher for another."""

    def __init__(
        self,
        generation: Generation,
        request: Request,
        *,
        table: ModelTable,
        scheduler: Scheduler,
        queue: ModelQueue,
    ) -> None:
        self.over = True
        self._generation = generation
        self._request = request
        self._table = table
        self._scheduler = scheduler
        self._changes = -1  # of the table, up to which this generation is known to answer
        self._queue = queue
        self._priority = request.priority or queue.priority
        self._slot: BoundSlot | None = None
        self._run_static: Callable[[], object] = _nothing
        self._inputs: tuple[tuple[Array, Array], ...] = ()
        self._outputs: tuple[tuple[Array, Array], ...] = ()

    def begin(self, places: Mapping[str, Array]) -> bool:
        """Borrows buffers; ``places``: where the outputs that are asked for are wanted. While a
        request of the caller is inside. False: there are none to borrow.

        Raises: ResourceError.
        """
        costs = self._generation.batch_costs
        self._queue.batch_rows = 1 if costs is None else costs.best
        slot = self._slot = self._generation.slots.lend(self._request.shapes, self.let_go)
        if slot is None:
            return False
        arrays = self._request.arrays or ()
        self._inputs = tuple((slot.inputs[name], array) for name, array in arrays)
        self._outputs = tuple((place, slot.outputs[name]) for name, place in places.items())
        self._run_static = slot.bind().run  # into the slot's outputs: it is static
        self.over = False
        return True

    def run(self) -> bool:
        """From the request's arrays into the places. False: not this time, or not any more; the
        dispatcher knows why.

        Raises: EngineError.
        """
        generation, scheduler = self._generation, self._scheduler
        if self._table.changes != self._changes and not self._still_answers():
            return False
        if generation.copies is not None or not generation.enter():
            self.close()
            return False
        turn_ns = filled_ns = done_ns = _now_ns()
        try:
            if not scheduler.enter(self._queue, self._priority):
                return False
            try:
                for buffer, array in self._inputs:
                    buffer[...] = array
                filled_ns = _now_ns()
                self._run_static()
                done_ns = _now_ns()
            except UsageError:  # the model did not keep its promise of shapes
                self.close()
                return False
            finally:
                scheduler.leave(self._queue, self._priority, done_ns - turn_ns)
            for place, buffer in self._outputs:
                place[...] = buffer
            generation.statistics.succeeded(
                queue_ns=0,  # it had its turn at once
                input_ns=filled_ns - turn_ns,
                infer_ns=done_ns - filled_ns,
                output_ns=_now_ns() - done_ns,
            )
        except EngineError:
            generation.statistics.failed(whole_ns=_now_ns() - turn_ns, engine=True)
            raise
        finally:
            generation.leave()
        return True

    def _still_answers(self) -> bool:
        """After a change of the table, maybe of another model."""
        changes = self._table.changes
        if not self._table.answers_alone(self._generation):
            self.close()
            return False
        self._changes = changes
        return True

    def close(self) -> None:
        """Gives the buffers back. Again is allowed."""
        slot = self._slot
        self.let_go()
        if slot is not None:
            self._generation.slots.take_back(slot)

    def let_go(self) -> None:
        """Looks at the buffers no more: they are gone with the generation. From any thread, while
        no request is inside."""
        self.over = True
        self._slot = None
        self._inputs = self._outputs = ()
        self._run_static = _nothing


def _nothing() -> None:
    """Instead of a run, where there are no buffers."""
