"""FleetService: what operators and pipelines ask."""

# ruff: noqa: N802 - the methods' names are those of the .proto
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import grpc
from sqlalchemy import Connection

from distributor import catalog, devices, rollouts
from distributor.audit import recorded
from distributor.config import DistributorConfig
from distributor.devices import DeviceRecord
from distributor.operators import EVERYWHERE
from distributor.planning import Verdict, choose, parse_selector
from distributor.services.access import Permit, permitted, visible
from distributor.services.driver import Planned, RolloutDriver, now_ms
from distributor.services.gate import CodeGate, EvidenceGate
from distributor.services.keeping import Keeper, stock
from distributor.services.publish import Gates, publish
from distributor.services.wakeups import Wakeups
from distributor.services.wire import (
    from_artifact,
    from_device,
    from_evidence,
    from_required,
    from_rollout,
    from_verdict,
    raw_digest,
    to_digest,
    to_request,
)
from distributor.services.wire_storage import from_stock
from distributor.storage import Blobs, Database
from edge_sdk.base import ModelName, NotFoundError, UsageError, Version, check_segment
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos import fleet_v1_pb2_grpc as fleet_grpc

_MISSED_CHECK_INS = 3  # after so many a device counts as offline


class Fleet(fleet_grpc.FleetServiceServicer):
    """Publish; models, devices, rollouts."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        *,
        driver: RolloutDriver,
        wakeups: Wakeups,
        keeper: Keeper,
        config: DistributorConfig,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._driver = driver
        self._wakeups = wakeups
        self._keeper = keeper
        self._config = config
        self._gates = Gates(
            code=CodeGate(config.code_namespaces), evidence=EvidenceGate(config.evidence_policy)
        )

    async def MissingFiles(
        self, request: fleet.MissingFilesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.MissingFilesResponse:
        model = _asked_model(request.model)
        if model is not None:
            permitted(model.namespace)
        wanted = [to_digest(one) for one in request.digests]
        missing = await self._database.read(catalog.missing_blobs, wanted)
        return fleet.MissingFilesResponse(digests=[one.raw for one in missing])

    async def Publish(
        self,
        request_iterator: AsyncIterator[fleet.PublishRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> fleet.PublishResponse:
        outcome = await publish(
            self._database,
            self._blobs,
            aiter(request_iterator),
            room=self._keeper,
            permit_for=permitted,
            gates=self._gates,
        )
        return fleet.PublishResponse(
            artifact=outcome.artifact.raw,
            created=outcome.created,
            evidence=[from_evidence(one) for one in outcome.evidence],
        )

    async def EvidencePolicy(
        self, request: fleet.EvidencePolicyRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.EvidencePolicyResponse:
        namespace = check_segment(request.namespace, "namespace")
        permitted(namespace)
        required = self._gates.evidence.required(namespace)
        return fleet.EvidencePolicyResponse(required=[from_required(one) for one in required])

    async def ListModels(
        self, request: fleet.ListModelsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.ListModelsResponse:
        found = await self._database.read(catalog.list_artifacts, _asked_model(request.model))
        return fleet.ListModelsResponse(
            artifacts=[from_artifact(one) for one in found if visible(one.model.namespace)]
        )

    async def ListStorage(
        self, request: fleet.ListStorageRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.ListStorageResponse:
        model = _asked_model(request.model)
        if model is None:
            permitted(EVERYWHERE)  # sums and budget are those of all namespaces
        found = await self._database.read(stock, model, self._keeper.asked())
        return from_stock(found, budget_bytes=self._keeper.budget_bytes)

    async def ListDevices(
        self, request: fleet.ListDevicesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.ListDevicesResponse:
        selector = parse_selector(request.selector)
        known = {one.device: one for one in await self._database.read(devices.list_devices)}
        labels = {name: one.facts.labels for name, one in known.items()}
        names = choose(labels, names=(), selector=selector)
        return fleet.ListDevicesResponse(devices=[self._device(known[name]) for name in names])

    async def LabelDevice(
        self, request: fleet.LabelDeviceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.Device:
        facts = _shown(request.set, request.remove)
        act = permitted().act("device.label", request.device, facts, at_ms=now_ms())
        record = await self._database.write(
            recorded(devices.label_device, act),
            request.device,
            put=dict(request.set),
            remove=list(request.remove),
        )
        return self._device(record)

    async def ExplainDevice(
        self, request: fleet.ExplainDeviceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.ExplainDeviceResponse:
        model = _asked_model(request.model)
        if request.version and model is None:
            raise UsageError("a version needs its model")
        version = Version.parse(request.version) if request.version else None
        record, verdicts = await self._database.read(_explain, request.device, model, version)
        return fleet.ExplainDeviceResponse(
            device=self._device(record),
            verdicts=[from_verdict(one) for one in verdicts if visible(one.facts.model.namespace)],
        )

    async def PlanRollout(
        self, request: fleet.RolloutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[fleet.PlanProgress]:
        wanted = to_request(request)
        _permitted_all(wanted.wanted)
        counts: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()
        task = asyncio.create_task(
            self._driver.dry_run(wanted, lambda done, total: counts.put_nowait((done, total)))
        )
        task.add_done_callback(lambda _: counts.put_nowait(None))
        done = total = 0
        try:
            while (count := await counts.get()) is not None:
                done, total = count
                yield fleet.PlanProgress(deltas_done=done, deltas_total=total)
            planned = await task
        finally:
            task.cancel()
        yield fleet.PlanProgress(
            deltas_done=done, deltas_total=total, devices=[_planned(one) for one in planned]
        )

    async def CreateRollout(
        self, request: fleet.RolloutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.Rollout:
        wanted = to_request(request)
        permit = _permitted_all(wanted.wanted)
        return from_rollout(await self._driver.create(wanted, permit=permit))

    async def GetRollout(
        self, request: fleet.GetRolloutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.Rollout:
        await self._permit(request.rollout)
        return from_rollout(await self._database.read(rollouts.get_rollout, request.rollout))

    async def ListRollouts(
        self, request: fleet.ListRolloutsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.ListRolloutsResponse:
        found = await self._database.read(rollouts.list_rollouts, _asked_model(request.model))
        return fleet.ListRolloutsResponse(
            rollouts=[
                from_rollout(one)
                for one in found
                if all(visible(model.namespace) for model in one.models)
            ]
        )

    async def WatchRollout(
        self, request: fleet.GetRolloutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[fleet.Rollout]:
        """The rollout now, then at each change, until it is over or the server ends."""
        await self._permit(request.rollout)
        shown = None
        with self._wakeups.waiting(f"rollout {request.rollout}") as waiter:
            while not self._wakeups.closing:
                one = await self._database.read(rollouts.get_rollout, request.rollout)
                if one != shown:
                    shown = one
                    yield from_rollout(one)
                if one.state in ("done", "aborted"):
                    return
                await waiter.wait()

    async def AbortRollout(
        self, request: fleet.AbortRolloutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.Rollout:
        permit = await self._permit(request.rollout)
        return from_rollout(await self._driver.abort(request.rollout, permit=permit))

    async def UndoRollout(
        self, request: fleet.UndoRolloutRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> fleet.Rollout:
        permit = await self._permit(request.rollout)
        return from_rollout(await self._driver.undo(request.rollout, permit=permit))

    async def _permit(self, rollout: str) -> Permit:
        """That the caller may do what it asks to the rollout. Raises: NotFoundError, ..."""
        return _permitted_all(await self._database.read(rollouts.models_of, rollout))

    def _device(self, record: DeviceRecord) -> fleet.Device:
        name = record.device
        silent_s = (now_ms() - record.last_seen_ms) / 1000
        seen = silent_s < _MISSED_CHECK_INS * self._config.check_in_s
        online = self._wakeups.watched(f"device {name}") or (
            seen and name not in self._wakeups.left
        )
        shown = from_device(record, rollouts.read_assignment(record), online=online)
        models = [one for one in shown.models if visible(ModelName.parse(one.model).namespace)]
        del shown.models[:]
        shown.models.extend(models)
        if shown.HasField("refusal") and not visible(EVERYWHERE):
            shown.refusal.ClearField("message")  # it may name models of any namespace
        return shown


def _asked_model(text: str) -> ModelName | None:
    """The model that a request is about, which the caller may see; none: about all.

    Raises: ForbiddenError, FormatError.
    """
    if not text:
        return None
    model = ModelName.parse(text)
    permitted(model.namespace)
    return model


def _permitted_all(models: Iterable[ModelName]) -> Permit:
    """That the caller may do it in the namespace of each model; the permit is the first's.

    Raises: ForbiddenError.
    """
    permits = [permitted(model.namespace) for model in models]
    return permits[0]


def _shown(put: Mapping[str, str], removed: Iterable[str]) -> dict[str, str]:
    """What was changed of the labels, as much as an audit entry can hold."""
    changes = {f"-{key[:63]}": "" for key in removed}
    changes |= {f"+{key[:63]}": value[:128] for key, value in put.items()}
    return dict(sorted(changes.items())[:16])


def _explain(
    connection: Connection, device: str, model: ModelName | None, version: Version | None
) -> tuple[DeviceRecord, list[Verdict]]:
    """The verdict on every variant of the version asked for, or of those assigned."""
    record = devices.get_device(connection, device)
    assigned = {one.model: one.version for one in rollouts.read_assignment(record).models}
    if model is not None and version is not None:
        wanted = {model: version}
    elif model is not None:
        if model not in assigned:
            raise NotFoundError(f"{model} is not assigned to {device}; name a version to explain")
        wanted = {model: assigned[model]}
    else:
        wanted = assigned
    verdicts: list[Verdict] = []
    for one in sorted(wanted):
        variants = [each.facts() for each in catalog.variants_of(connection, one, wanted[one])]
        verdicts += rollouts.resolve_for(connection, record, variants).verdicts
    return record, verdicts


def _planned(one: Planned) -> fleet.PlannedDevice:
    message = fleet.PlannedDevice(
        device=one.wanted.record.device,
        model=str(one.wanted.model),
        reason=one.wanted.refusal,
    )
    if one.wanted.target is None or one.way is None:
        return message
    plan = one.way.plan
    message.reason = plan.reason if one.way.error is None else one.way.error.message
    message.whole_bytes = plan.whole_bytes
    if plan.feasible:
        message.variant = one.wanted.target.variant
        message.artifact = one.wanted.target.artifact.raw
        message.source_artifact = raw_digest(plan.source)
        message.wire_bytes = plan.wire_bytes
        message.steps = len(plan.steps)
    return message
