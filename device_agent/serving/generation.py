"""A loaded artifact: its session, its buffers, and how many requests are inside it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from device_agent.serving.cache import ResponseCache
from device_agent.serving.scheduling import BatchCosts
from device_agent.serving.sequences import SequenceStates
from device_agent.serving.slots import SlotCache
from device_agent.serving.statistics import Statistics
from edge_sdk.base import Digest
from edge_sdk.engines.contract import Array, Session
from edge_sdk.manifest import TensorSpec, Tolerance
from edge_sdk.tensor_pool import TensorPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which artifact; ``golden`` holds the inputs to replay on it, by tensor name, ``labels``
    the names of its classes, by index."""

    model: str
    artifact: Digest
    version: str
    variant: str
    engine: str
    entry: str
    runs_on: str = ""  # what else decides about its answers: engine, threads, processor
    golden: Mapping[str, Array] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)  # by output


class Copies(Protocol):
    """Takes copies of requests' inputs (see mirror.py). Never waits."""

    def offer(self, inputs: Mapping[str, Array]) -> None: ...


_numbers = itertools.count(1)


class Generation:
    """Serves until it is retired and its last request has left; then it can be closed.

    ``states``: of its sequences, None where the model keeps none. ``copies``: gets the inputs
    of each run while this version is compared with another.
    """

    def __init__(
        self,
        identity: Identity,
        session: Session,
        pool: TensorPool,
        cache: ResponseCache | None = None,
        statistics: Statistics | None = None,
        *,
        rows_max: int = 1,
        states: SequenceStates | None = None,
    ) -> None:
        """``cache``: the model's, which all of its generations share; None: it has none.
        ``statistics``: on a page that others read; None: nobody else sees them.
        ``rows_max``: how many rows may share buffers."""
        self.number = next(_numbers)  # in this process, no other has it
        self.cache = cache
        self.states = states
        self.copies: Copies | None = None
        self.identity = identity
        self.session = session
        self.slots = SlotCache(session, pool, rows_max)
        self.batch_costs: BatchCosts | None = None  # None: each request runs alone
        self.statistics = statistics or Statistics()
        self.memory_bytes = 0
        self.load_ms = 0.0
        # An entry each: adding and taking one off is a single step, for which no lock is needed.
        self._inside: list[None] = []
        self._when_empty: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._is_over = False

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a client gives: all inputs but states."""
        return self.session.inputs if self.states is None else self.states.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gets where it asks for nothing by name: all outputs but next states."""
        return self.session.outputs if self.states is None else self.states.outputs

    def enter(self) -> bool:
        """One request more; False: this one was retired, ask again who serves."""
        self._inside.append(None)
        if self._when_empty is None:  # looked at afterwards: ``retire`` sees this one, or this it
            return True
        self.leave()
        return False

    @property
    def in_flight(self) -> int:
        return len(self._inside)

    def leave(self) -> None:
        self._inside.pop()
        if self._when_empty is not None:
            self._end()

    def retire(self, when_empty: Callable[[], None]) -> None:
        """Lets no request in any more; ``when_empty`` is called once, after the last has left.

        It is called from whatever thread that request had: it must be quick.
        """
        self._when_empty = when_empty
        self._end()

    def _end(self) -> None:
        """Of those who find a retired one empty, the first tells."""
        with self._lock:
            is_last = not self._inside and not self._is_over
            self._is_over |= is_last
        if is_last and self._when_empty is not None:
            self._when_empty()

    def close(self) -> None:
        """Frees everything. Only after the last request has left."""
        if self.states is not None:
            self.states.close()
        self.slots.close()
        self.session.close()
        self.statistics.close()
