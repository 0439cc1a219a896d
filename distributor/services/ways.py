"""Finds the way from what a device holds to a target: the one caller of the planner.

Builds what is missing, measures it by building, and lets ``distributor.planning`` choose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from distributor import catalog, devices
from distributor.builds import Builder
from distributor.errors import BeingBuiltError, BuildFailedError
from distributor.planning import (
    ArtifactFacts,
    DeltaJob,
    DeltaOffer,
    DeviceFacts,
    History,
    Plan,
    plan,
    wanted,
)
from distributor.services.keeping import offer_of
from distributor.storage import Database
from edge_sdk.base import Digest, EdgeError, RefusedError
from edge_sdk.delta import FORMAT_VERSION, METHODS

_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A plan, or why there is none; ``error`` names the reason where a build failed."""

    plan: Plan
    error: EdgeError | None = None


class Ways:
    """Plans for devices, on the deltas that are built."""

    def __init__(self, database: Database, builder: Builder) -> None:
        self._database = database
        self.builder = builder

    async def history(self, held: Sequence[ArtifactFacts], target: ArtifactFacts) -> History:
        """What is published, built and run, as far as it matters to who holds ``held``."""
        return await self._database.read(_history, held, target)

    def jobs(
        self,
        device: DeviceFacts,
        held: Sequence[ArtifactFacts],
        target: ArtifactFacts,
        history: History,
    ) -> tuple[DeltaJob, ...]:
        """The deltas worth having for such a device. None where it knows no format of ours."""
        if FORMAT_VERSION not in device.decoder.versions:
            return ()
        return wanted(
            device.decoder,
            held,
            target,
            history=history,
            known_methods=METHODS,
            disk_free_bytes=device.disk_free_bytes,
        )

    async def held(self, artifacts: Iterable[Digest]) -> tuple[ArtifactFacts, ...]:
        """Facts of those that the catalog knows; what it does not know is no source."""
        found = await self._database.read(catalog.find_artifacts, tuple(artifacts))
        return tuple(found[one].facts() for one in sorted(found))

    async def choose(
        self, device: DeviceFacts, held: Sequence[ArtifactFacts], target: ArtifactFacts
    ) -> Plan:
        """The cheapest way by what is built now; never waits."""
        offers, hubs = await self._database.read(_offers, held, target)
        return plan(device, held, target, offers, hubs=hubs)

    async def find(
        self, device: DeviceFacts, held: Sequence[ArtifactFacts], target: ArtifactFacts
    ) -> Way:
        """Builds what is worth having, then chooses. A build that failed leaves the others."""
        jobs = self.jobs(device, held, target, await self.history(held, target))
        results = await asyncio.gather(
            *(self.builder.build(job) for job in jobs), return_exceptions=True
        )
        error = None
        for result in results:
            if isinstance(result, EdgeError):
                error = result
            elif isinstance(result, BaseException):
                raise result
        chosen = await self.choose(device, held, target)
        return Way(plan=chosen, error=None if chosen.feasible else error)

    async def find_soon(
        self,
        device: DeviceFacts,
        held: Sequence[ArtifactFacts],
        target: ArtifactFacts,
        *,
        wait_s: float,
    ) -> Plan:
        """As ``find``, within ``wait_s``; builds go on after that.

        Raises: BeingBuiltError (ask again), BuildFailedError, RefusedError (there is no way).
        """
        task = asyncio.create_task(self.find(device, held, target))
        try:
            way = await asyncio.wait_for(asyncio.shield(task), wait_s)
        except TimeoutError:
            task.add_done_callback(_observe)
            chosen = await self._without_waiting(device, held, target)
            if chosen is not None:
                return chosen
            raise BeingBuiltError(
                f"the delta to {target.model} {target.version} is being built; ask again",
                retry_after_s=_RETRY_AFTER_S,
            ) from None
        except asyncio.CancelledError:
            task.cancel()
            raise
        if way.plan.feasible:
            return way.plan
        if way.error is not None:
            raise BuildFailedError(way.error.message, cause=way.error.reason)
        raise RefusedError(
            f"{device.device} cannot come to {target.model} {target.version} "
            f"{target.variant}: {way.plan.reason}"
        )

    async def _without_waiting(
        self, device: DeviceFacts, held: Sequence[ArtifactFacts], target: ArtifactFacts
    ) -> Plan | None:
        """The way by what is built, where no delta from a source is still to come; the whole,
        which then is only there to compare with, may be."""
        for job in self.jobs(device, held, target, await self.history(held, target)):
            if job.source is not None and not await self.builder.settled(job):
                return None
        chosen = await self.choose(device, held, target)
        return chosen if chosen.steps else None


def _observe(task: asyncio.Task[Way]) -> None:
    """Looks at what an abandoned task ended with, so that nobody warns about it."""
    if not task.cancelled():
        task.exception()


def _history(
    connection: Connection, held: Sequence[ArtifactFacts], target: ArtifactFacts
) -> History:
    published = catalog.history_of(connection, target.model, target.variant)
    bare = History(line=tuple(one.artifact for one in published))
    hubs = {bare.hub(facts.artifact, target.artifact) for facts in held} - {None}
    ends = [target.artifact, *(one for one in hubs if one is not None)]
    return replace(
        bare,
        file_bytes={one.artifact: one.size_bytes for one in published},
        offers=[offer_of(one) for one in catalog.list_deltas(connection, ends)],
        running=devices.running_on(connection, target.model) if hubs else {},
    )


def _offers(
    connection: Connection, held: Sequence[ArtifactFacts], target: ArtifactFacts
) -> tuple[list[DeltaOffer], tuple[ArtifactFacts, ...]]:
    """What is built to the target, and what leads from what is held to the sources of that
    (hubs)."""
    direct = catalog.find_deltas(connection, target.artifact)
    have = {facts.artifact for facts in held}
    between = {one.source for one in direct if one.source is not None} - have
    first = catalog.list_deltas(connection, sorted(between), sources=have)
    hubs = catalog.find_artifacts(connection, sorted({one.target for one in first}))
    offers = [offer_of(one) for one in (*direct, *first)]
    return offers, tuple(hubs[one].facts() for one in sorted(hubs))
