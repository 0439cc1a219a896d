"""The outputs of a run while somebody looks at them, and what is done when nobody does any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType

from device_agent.serving.generation import Generation, Identity
from device_agent.serving.slots import BoundSlot
from edge_sdk.base import EdgeError
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import Array
from edge_sdk.manifest.model import TensorSpec

_now_ns = time.perf_counter_ns


class HeldSlot:
    """A slot that several answers look at: it goes back when the last of them is closed."""

    def __init__(self, slot: BoundSlot, answers: int, then: Callable[[], None]) -> None:
        """``then`` is called when the last is closed."""
        self.slot = slot
        self._answers = answers
        self._then = then
        self._lock = threading.Lock()

    def let_go(self) -> bool:
        """Whether nobody looks at it any more."""
        with self._lock:
            self._answers -= 1
            if self._answers:
                return False
        self._then()
        return True


class Answer:
    """Outputs of one run, good until ``close`` or the end of the block; ``identity`` says who
    computed them, ``generation`` its number in this process.

    ``static``: whatever that generation answers to this request, its outputs have these shapes.
    """

    __slots__ = (
        *("entered", "generation", "outputs", "slot", "specs", "static"),
        *("_closed", "_done_ns", "_generation", "_held", "_phases"),
    )

    def __init__(
        self,
        generation: Generation,
        outputs: Mapping[str, Array],
        specs: Mapping[str, TensorSpec],
        *,
        slot: BoundSlot | None = None,
        phases: tuple[int, int, int, int, bool] | None = None,
        done_ns: int = 0,
        held: HeldSlot | None = None,
    ) -> None:
        """``phases``: nanoseconds in queue, input and engine, requests in the run, and whether
        this one's thread made it; None: there was no run. ``held``: others look at the slot too.
        """
        self.generation = generation.number
        self.outputs = outputs
        self.specs = specs
        self.static = slot is not None and slot.static
        self.entered = False  # the request leaves the generation with it
        self._generation = generation
        self._closed = False
        self.slot = slot
        self._held = held
        self._phases = phases
        self._done_ns = done_ns
        if slot is not None and slot.is_checked:
            slot.check(outputs)

    def narrow(self, specs: Mapping[str, TensorSpec]) -> Answer:
        """Leaves out what was run for but is not answered."""
        self.outputs = {name: self.outputs[name] for name in specs}
        self.specs = specs
        self.static = False  # shapes may grow with the state
        return self

    @property
    def identity(self) -> Identity:
        return self._generation.identity

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(error)

    def close(self, error: BaseException | None = None) -> None:
        """The answer was used, or could not be given after all (``error``): it is counted, and
        its buffers are free for others."""
        if self._closed:
            return
        self._closed = True
        generation, phases = self._generation, self._phases
        if error is not None:
            self._count_failed(error)
        elif phases is not None:
            generation.statistics.succeeded(
                queue_ns=phases[0],
                input_ns=phases[1],
                infer_ns=phases[2],
                output_ns=_now_ns() - self._done_ns,
                batch_size=phases[3],
                leads=phases[4],
            )
        slot = self.slot
        try:
            if slot is not None and (self._held is None or self._held.let_go()):
                try:
                    if generation.copies is not None and not slot.once:
                        generation.copies.offer(slot.inputs)
                finally:
                    generation.slots.put_back(slot)
        finally:
            if self.entered:
                generation.leave()

    def _count_failed(self, error: BaseException) -> None:
        if isinstance(error, EdgeError):
            self._generation.statistics.failed(
                whole_ns=_now_ns() - self._done_ns + sum((self._phases or (0, 0, 0))[:3]),
                engine=isinstance(error, EngineError),
            )
