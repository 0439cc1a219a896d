"""What this process shows on the statistics page beside counters: who is loaded, and gauges."""

from __future__ import annotations

import dataclasses
import threading

from device_agent.serving import memory
from device_agent.serving.generation import Identity
from device_agent.serving.model_table import ModelTable
from device_agent.serving.scheduling import Scheduler
from device_agent.serving.statistics import Statistics
from device_agent.statistics_page import Described, PageWriter, PoolUse
from edge_sdk.tensor_pool import TensorPool

BEAT_S = 0.25


def statistics_for(identity: Identity, page: PageWriter | None) -> Statistics:
    """Counters on the artifact's row; nobody else sees them where there is no page, or no row."""
    row = None
    if page is not None:
        row = page.claim(
            Described(
                model=identity.model,
                version=identity.version,
                variant=identity.variant,
                engine=identity.engine,
                artifact=identity.artifact.raw,
            )
        )
    if page is None or row is None:
        return Statistics()
    return Statistics(row, let_go=page.let_go, tracer=page.tracer)


_POOL_USE = [field.name for field in dataclasses.fields(PoolUse)]


class Beat:
    """Sets the gauges every ``BEAT_S``: about 50 µs of a thread, none of any request's."""

    def __init__(
        self, page: PageWriter, table: ModelTable, pool: TensorPool, scheduler: Scheduler
    ) -> None:
        self._page = page
        self._scheduler = scheduler
        self._table = table
        self._pool = pool
        self._over = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._work, name="statistics-beat", daemon=True).start()

    def stop(self) -> None:
        self._over.set()

    def once(self) -> None:
        for generation in self._table.answering():
            queue = self._scheduler.queue(generation.identity.model)
            generation.statistics.set_gauges(
                in_flight=generation.in_flight, waiting=queue.waiting, running=queue.running
            )
            if generation.cache is not None:
                generation.statistics.set_cache(dataclasses.astuple(generation.cache.use()))
        pool = self._pool.statistics()
        load = self._scheduler.load()
        self._page.beat(
            memory_bytes=memory.status_bytes("RssAnon"),
            pool=[getattr(pool, name) for name in _POOL_USE],
            waiting=load.waiting,
            running=load.running,
        )

    def _work(self) -> None:
        while not self._over.wait(BEAT_S):
            self.once()
