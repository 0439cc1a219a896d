"""Finds the way from what a device holds to a target: the one caller of the planner.

Builds what is missing, measures it by building, and lets ``distributor.planning`` choose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from distributor.builds import Builder
from distributor.catalog import CatalogDelta, find_artifacts, find_deltas
from distributor.errors import BeingBuiltError, BuildFailedError
from distributor.planning import (
    ArtifactFacts,
    DecoderFacts,
    DeltaJob,
    DeltaOffer,
    DeviceFacts,
    Plan,
    plan,
    wanted,
)
from distributor.storage import Database
from edge_sdk.base import Digest, EdgeError, RefusedError
from edge_sdk.delta import FORMAT_VERSION, METHODS

_RETRY_AFTER_S = 2.0


def offer_of(delta: CatalogDelta) -> DeltaOffer:
    return DeltaOffer(
        source=delta.source,
        target=delta.target,
        delta=delta.delta,
        delta_bytes=delta.size_bytes,
        decoder_memory_bytes=delta.decoder_memory_bytes,
        format_version=delta.format_version,
        methods=frozenset(delta.methods),
    )


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

    def jobs(
        self, decoder: DecoderFacts, held: Sequence[ArtifactFacts], target: ArtifactFacts
    ) -> tuple[DeltaJob, ...]:
        """The deltas worth having for such a device. None where it knows no format of ours."""
        if FORMAT_VERSION not in decoder.versions:
            return ()
        return wanted(decoder, held, target, known_methods=METHODS)

    async def held(self, artifacts: Iterable[Digest]) -> tuple[ArtifactFacts, ...]:
        """Facts of those that the catalog knows; what it does not know is no source."""
        found = await self._database.read(find_artifacts, tuple(artifacts))
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
        jobs = self.jobs(device.decoder, held, target)
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
        for job in self.jobs(device.decoder, held, target):
            if job.source is not None and not await self.builder.settled(job):
                return None
        chosen = await self.choose(device, held, target)
        return chosen if chosen.steps else None


def _observe(task: asyncio.Task[Way]) -> None:
    """Looks at what an abandoned task ended with, so that nobody warns about it."""
    if not task.cancelled():
        task.exception()


def _offers(
    connection: Connection, held: Sequence[ArtifactFacts], target: ArtifactFacts
) -> tuple[list[DeltaOffer], tuple[ArtifactFacts, ...]]:
    """What is built to the target, and to what those deltas start from (hubs)."""
    direct = find_deltas(connection, target.artifact)
    have = {facts.artifact for facts in held}
    between = {one.source for one in direct if one.source is not None} - have
    hubs = find_artifacts(connection, sorted(between))
    offers = [offer_of(one) for one in direct]
    for hub in sorted(hubs):
        offers += [
            offer_of(one)
            for one in find_deltas(connection, hub)
            if one.source is not None and one.source in have
        ]
    return offers, tuple(hubs[one].facts() for one in sorted(hubs))
