"""DeliveryService: what devices ask. Who asks is known from the connection alone."""

# ruff: noqa: N802 - the methods' names are those of the .proto
from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc
from sqlalchemy import Connection

from distributor import catalog, devices, identity, rollouts, signing
from distributor.config import DistributorConfig
from distributor.devices import CheckIn
from distributor.identity import Mark
from distributor.planning import DeltaOffer
from distributor.rollouts import Touched
from distributor.services.driver import RolloutDriver, now_ms
from distributor.services.interceptor import caller
from distributor.services.standing import Standing
from distributor.services.wakeups import Wakeups
from distributor.services.ways import Ways
from distributor.services.wire import (
    number,
    to_check_in,
    to_device_facts,
    to_digest,
    to_event,
    to_mark,
)
from distributor.signing import OnlineKeys
from distributor.storage import Blobs, Database
from edge_sdk.base import BusyError, Digest, RefusedError, UsageError
from edge_sdk.identity import CertificateFacts
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import delivery_v1_pb2_grpc as delivery_grpc
from edge_sdk.rpc import FRAME_BYTES

_EVENTS_MAX = 10_000
_FETCH_SLOT_WAIT_S = 10.0
_ANSWER_EARLIER_S = 1.0  # an answer that comes at the caller's deadline comes to nobody

# Reasons of a device that can come from damage on this side.
_BAD_BYTES = frozenset({"DeltaError", "ProofError", "WrongSourceError"})


class Delivery(delivery_grpc.DeliveryServiceServicer):
    """Check in, watch, plan, fetch, report."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        *,
        ways: Ways,
        driver: RolloutDriver,
        wakeups: Wakeups,
        keys: OnlineKeys,
        config: DistributorConfig,
        standing: Standing | None = None,
        should_renew: Callable[[CertificateFacts], bool] = lambda _: False,
    ) -> None:
        self._standing = standing or Standing()
        self._should_renew = should_renew
        self._database = database
        self._blobs = blobs
        self._ways = ways
        self._driver = driver
        self._wakeups = wakeups
        self._keys = keys
        self._config = config
        self._fetches = asyncio.Semaphore(config.fetches_max)

    async def CheckIn(
        self, request: delivery.CheckInRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> delivery.CheckInResponse:
        """Registers the device and answers with its assignment where it has not the newest."""
        who = caller().certificate
        check_in = to_check_in(caller().name, request)
        refused, document, touched = await self._database.write(
            _check_in, check_in, self._keys, who, to_mark(request), at_ms=now_ms()
        )
        if refused and who is not None:
            self._driver.tell(touched)
            self._standing.refuse(who.key, refused)
            self._standing.check(who.key)
        self._wakeups.left.discard(check_in.facts.device)
        self._driver.tell(touched)
        return delivery.CheckInResponse(
            assignment=document,
            next_check_in_s=self._config.check_in_s,
            renew_certificate=who is not None and self._should_renew(who),
        )

    async def Watch(
        self, request: delivery.WatchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[delivery.WatchEvent]:
        """Says each newer assignment counter once; a goodbye when the server ends."""
        device = caller().name
        told = number(request.assignment_counter, "assignment counter")
        topic = f"device {device}"
        try:
            with self._wakeups.waiting(topic) as waiter:
                while not self._wakeups.closing:
                    record = await self._database.read(devices.get_device, device)
                    if record.assigned_counter != told and record.assigned_counter:
                        told = record.assigned_counter
                        yield delivery.WatchEvent(assignment_counter=told)
                    await waiter.wait()
        finally:
            if not self._wakeups.watched(topic):
                self._wakeups.left.add(device)
        # Spread, so that all who watched do not come back in one moment.
        back_s = random.uniform(0, self._config.reconnect_cap_s)  # noqa: S311 - no secret
        yield delivery.WatchEvent(assignment_counter=told, goodbye=True, reconnect_s=back_s)

    async def Plan(
        self, request: delivery.PlanRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> delivery.PlanResponse:
        """The steps from what the device holds to the target; waits a while for a build."""
        device = caller().name
        record = await self._database.read(devices.get_device, device)
        target = await self._database.read(catalog.get_artifact, to_digest(request.target_artifact))
        facts = to_device_facts(
            device, request.capabilities, disk_free_bytes=record.facts.disk_free_bytes
        )
        held = await self._ways.held(to_digest(one) for one in request.source_artifacts)
        wait_s = self._config.plan_wait_s
        remaining_s = context.time_remaining()
        if remaining_s is not None:
            wait_s = min(wait_s, max(0.0, remaining_s - _ANSWER_EARLIER_S))
        try:
            plan = await self._ways.find_soon(facts, held, target.facts(), wait_s=wait_s)
        except RefusedError:
            # The room that counts is the device's own, now, and it says itself what is missing.
            anywhere = replace(facts, disk_free_bytes=None)
            plan = await self._ways.find_soon(anywhere, held, target.facts(), wait_s=wait_s)
        documents = await self._database.read(
            catalog.find_artifacts, [step.target for step in plan.steps]
        )
        return delivery.PlanResponse(
            steps=[_step(one, documents[one.target].document) for one in plan.steps],
            whole_bytes=plan.whole_bytes,
        )

    async def Fetch(
        self, request: delivery.FetchRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[delivery.FetchFrame]:
        """A range of a blob or delta, read only as fast as the device takes it.

        Nothing is proved here: the device believes nothing else anyway.
        """
        digest = to_digest(request.digest)
        size = await self._database.read(catalog.blob_size, digest)
        offset = number(request.offset, "offset")
        length = number(request.length, "length")
        end = offset + length if length else size
        if offset > size or end > size:
            raise UsageError(
                f"bytes {offset} to {end} are not within {digest}, which has {size}", size=size
            )
        await self._take_slot()
        try:
            async for frame in self._frames(digest, offset, end):
                yield frame
        finally:
            self._fetches.release()

    async def Report(
        self, request: delivery.ReportRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> delivery.ReportResponse:
        """Stores numbered events; answers once they are durable. Repeating it is harmless."""
        if len(request.events) > _EVENTS_MAX:
            raise UsageError(f"a report has at most {_EVENTS_MAX} events")
        events = [to_event(one) for one in request.events]
        acknowledged, touched = await self._database.write(
            rollouts.store_events, caller().name, events, at_ms=now_ms()
        )
        self._driver.tell(touched)
        for event in events:
            if event.artifact is not None and event.reason in _BAD_BYTES:
                self._ways.builder.recheck_soon(event.artifact)
        return delivery.ReportResponse(acknowledged=acknowledged)

    async def _take_slot(self) -> None:
        try:
            await asyncio.wait_for(self._fetches.acquire(), _FETCH_SLOT_WAIT_S)
        except TimeoutError:
            raise BusyError(
                f"{self._config.fetches_max} downloads are under way; ask again",
                retry_after_s=_FETCH_SLOT_WAIT_S,
            ) from None

    async def _frames(
        self, digest: Digest, offset: int, end: int
    ) -> AsyncIterator[delivery.FetchFrame]:
        async for part in self._blobs.stream(digest, offset, end):
            for start in range(0, len(part), FRAME_BYTES):
                data = bytes(part[start : start + FRAME_BYTES])
                yield delivery.FetchFrame(offset=offset + start, data=data)
            offset += len(part)


def _check_in(
    connection: Connection,
    said: CheckIn,
    keys: OnlineKeys,
    who: CertificateFacts | None,
    mark: Mark | None,
    *,
    at_ms: int,
) -> tuple[str, bytes, Touched]:
    """Why the caller is refused from now on, or "" and what it should run, sealed; empty
    where it has the newest."""
    refused = ""
    if who is not None:
        refused = identity.note_check_in(connection, who, mark, at_ms=at_ms)
    if who is not None and refused:
        return refused, b"", rollouts.leave(connection, who.name, refused, at_ms=at_ms)
    record = devices.record_check_in(connection, said, at_ms=at_ms)
    touched = rollouts.settle(connection, record, at_ms=at_ms)
    document = rollouts.newer_assignment(connection, record.device, at_ms=at_ms)
    if not document:
        return refused, document, touched
    counter = devices.get_device(connection, record.device).assigned_counter
    sealed = signing.seal(
        connection, keys, device=record.device, counter=counter, document=document
    )
    return refused, sealed, touched


def _step(offer: DeltaOffer, manifest: bytes) -> delivery.PlanStep:
    return delivery.PlanStep(
        source_artifact=b"" if offer.source is None else offer.source.raw,
        target_artifact=offer.target.raw,
        delta=offer.delta.raw,
        delta_bytes=offer.delta_bytes,
        decoder_memory_bytes=offer.decoder_memory_bytes,
        target_manifest=manifest,
    )
