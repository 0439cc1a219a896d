"""Messages of the wire to values, and cohorts the other way: the only place that knows both."""

from __future__ import annotations

from collections.abc import Iterable

from edge_sdk.base import Digest
from edge_sdk.evidence import Required
from edge_sdk.fleet.model import (
    Artifact,
    Cohort,
    Device,
    DeviceModel,
    Explanation,
    HeldEvidence,
    ModelVersion,
    PlannedDevice,
    Refusal,
    Rollout,
    RolloutDevice,
    Storage,
    StoredDelta,
    StoredVersion,
    VariantVerdict,
)
from edge_sdk.protos import fleet_v1_pb2 as wire


def _digest(raw: bytes) -> Digest | None:
    return Digest(raw) if raw else None


def artifact_from(message: wire.Artifact) -> Artifact:
    return Artifact(
        artifact=Digest(message.artifact),
        model=message.model,
        version=message.version,
        variant=message.variant,
        parent=message.parent or None,
        format=message.format,
        size_bytes=message.size_bytes,
        published_ms=message.published_ms,
    )


def evidence_from(message: wire.Evidence) -> HeldEvidence:
    return HeldEvidence(kind=message.kind, digest=Digest(message.digest), signer=message.signer)


def required_from(message: wire.RequiredEvidence) -> Required:
    """Raises: FormatError, UsageError."""
    required = Required(
        kind=message.kind,  # type: ignore[arg-type]
        keys=tuple(message.keys),
        authorities=tuple(message.authorities),
        identities=tuple(message.identities),
        builders=tuple(message.builders),
    )
    required.check()
    return required


def storage_from(message: wire.ListStorageResponse) -> Storage:
    return Storage(
        versions=tuple(
            StoredVersion(
                artifact=Digest(one.artifact),
                model=one.model,
                version=one.version,
                variant=one.variant,
                files_bytes=one.files_bytes,
                golden_bytes=one.golden_bytes,
                key=one.key,
                devices=one.devices,
                reasons=tuple(one.reasons),
            )
            for one in message.versions
        ),
        deltas=tuple(_stored_delta_from(one) for one in message.deltas),
        files_bytes=message.files_bytes,
        deltas_bytes=message.deltas_bytes,
        could_go_bytes=message.could_go_bytes,
        budget_bytes=message.budget_bytes,
    )


def _stored_delta_from(message: wire.StoredDelta) -> StoredDelta:
    return StoredDelta(
        delta=Digest(message.delta),
        model=message.model,
        variant=message.variant,
        source_artifact=_digest(message.source_artifact),
        source_version=message.source_version,
        source_variant=message.source_variant,
        target_artifact=Digest(message.target_artifact),
        target_version=message.target_version,
        size_bytes=message.size_bytes,
        methods=tuple(message.methods),
        decoder_memory_bytes=message.decoder_memory_bytes,
        built_ms=message.built_ms,
        use=message.use,
        reasons=tuple(message.reasons),
        could_go=message.could_go,
        worth_bytes=message.worth_bytes,
    )


def device_from(message: wire.Device) -> Device:
    return Device(
        device=message.device,
        labels=dict(message.labels),
        first_seen_ms=message.first_seen_ms,
        last_seen_ms=message.last_seen_ms,
        online=message.online,
        models=tuple(_device_model_from(one) for one in message.models),
        architecture=message.architecture,
        memory_bytes=message.memory_bytes,
        disk_free_bytes=message.disk_free_bytes,
        agent_version=message.agent_version,
        engines=tuple(message.engines),
        refusal=_refusal_from(message.refusal) if message.HasField("refusal") else None,
    )


def _refusal_from(message: wire.Refusal) -> Refusal:
    return Refusal(
        at_ms=message.at_ms,
        reason=message.reason,
        check=message.check,
        message=message.message,
    )


def _device_model_from(message: wire.DeviceModel) -> DeviceModel:
    return DeviceModel(
        model=message.model,
        assigned_version=message.assigned_version,
        assigned_artifact=_digest(message.assigned_artifact),
        running_version=message.running_version,
        running_artifact=_digest(message.running_artifact),
        state=message.state,
        reason=message.reason,
    )


def explanation_from(message: wire.ExplainDeviceResponse) -> Explanation:
    return Explanation(
        device=device_from(message.device),
        verdicts=tuple(
            VariantVerdict(
                artifact=Digest(one.artifact),
                model=one.model,
                version=one.version,
                variant=one.variant,
                fits=one.fits,
                chosen=one.chosen,
                reasons=tuple(one.reasons),
            )
            for one in message.verdicts
        ),
    )


def cohort_to(cohort: Cohort) -> wire.Cohort:
    return wire.Cohort(devices=cohort.devices, selector=cohort.selector)


def planned_device_from(message: wire.PlannedDevice) -> PlannedDevice:
    return PlannedDevice(
        device=message.device,
        model=message.model,
        variant=message.variant,
        artifact=_digest(message.artifact),
        source_artifact=_digest(message.source_artifact),
        wire_bytes=message.wire_bytes,
        whole_bytes=message.whole_bytes,
        reason=message.reason,
        steps=message.steps,
    )


def together_from(messages: Iterable[wire.ModelVersion]) -> tuple[ModelVersion, ...]:
    return tuple(ModelVersion(model=one.model, version=one.version) for one in messages)


def rollout_from(message: wire.Rollout) -> Rollout:
    cohort = Cohort(devices=tuple(message.cohort.devices), selector=message.cohort.selector)
    return Rollout(
        rollout=message.rollout,
        model=message.model,
        version=message.version,
        cohort=cohort,
        state=message.state,
        reason=message.reason,
        created_ms=message.created_ms,
        devices=tuple(_rollout_device_from(one, message.model) for one in message.devices),
        deltas_done=message.deltas_done,
        deltas_total=message.deltas_total,
        undoes=message.undoes or None,
        together=together_from(message.together),
    )


def _rollout_device_from(message: wire.RolloutDevice, only: str) -> RolloutDevice:
    """``only``: the model of a distributor that knows no groups and so does not repeat it."""
    return RolloutDevice(
        device=message.device,
        model=message.model or only,
        version=message.version,
        variant=message.variant,
        artifact=_digest(message.artifact),
        state=message.state,
        reason=message.reason,
        message=message.message,
        wire_bytes=message.wire_bytes,
        whole_bytes=message.whole_bytes,
        changed_ms=message.changed_ms,
        facts=dict(message.facts),
    )
