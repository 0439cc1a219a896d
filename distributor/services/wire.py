"""Messages to values and values to messages. Nothing is decided here.

Text that a device sends is cut and cleaned to what a column takes: an event that could not
be stored would be sent for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from distributor.catalog import CatalogArtifact
from distributor.devices import CheckIn, DeviceRecord, ModelState
from distributor.identity import Mark
from distributor.planning import DecoderFacts, DeviceFacts, EngineFacts, Verdict
from distributor.rollouts import Cohort, DeviceEvent, Rollout, RolloutDevice, RolloutRequest
from edge_sdk.base import Digest, FormatError, ModelName, UsageError, Version, check_segment
from edge_sdk.evidence import Evidence, Required
from edge_sdk.manifest import Assignment
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet

_NUMBER_MAX = 2**53 - 1
_TEXT_MAX = 4096
_SHORT_MAX = 64
_FACTS_MAX = 64
_LABELS_MAX = 64
_MARK_BYTES = 32


def to_digest(raw: bytes) -> Digest:
    """Raises: FormatError."""
    return Digest(raw)


def maybe_digest(raw: bytes) -> Digest | None:
    return Digest(raw) if raw else None


def raw_digest(digest: Digest | None) -> bytes:
    return b"" if digest is None else digest.raw


def number(value: int, what: str) -> int:
    """Raises: UsageError (more than a counter here can be)."""
    if not 0 <= value <= _NUMBER_MAX:
        raise UsageError(f"{what} {value} is out of range")
    return value


def clean(text: str, most: int = _TEXT_MAX) -> str:
    return text.replace("\x00", "")[:most]


def to_device_facts(
    device: str,
    said: delivery.Capabilities,
    *,
    disk_free_bytes: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> DeviceFacts:
    return DeviceFacts(
        device=device,
        decoder=DecoderFacts(
            versions=frozenset(said.delta_versions),
            methods=frozenset(clean(one, _SHORT_MAX) for one in said.delta_methods),
            memory_bytes=number(said.decoder_memory_bytes, "decoder memory"),
        ),
        engines=tuple(
            EngineFacts(
                name=clean(one.name, _SHORT_MAX),
                version=clean(one.version, _SHORT_MAX),
                ir_version_max=one.ir_version_max,
                opset_max=dict(one.opset_max),
            )
            for one in said.engines
        ),
        architecture=clean(said.architecture, _SHORT_MAX),
        memory_bytes=number(said.memory_bytes, "memory"),
        accelerators=frozenset(clean(one, _SHORT_MAX) for one in said.accelerators),
        disk_free_bytes=disk_free_bytes,
        labels=labels or {},
    )


def to_check_in(device: str, said: delivery.CheckInRequest) -> CheckIn:
    """Raises: FormatError, UsageError."""
    if len(said.labels) > _LABELS_MAX:
        raise UsageError(f"a device declares at most {_LABELS_MAX} labels")
    labels = {check_segment(key, "label"): clean(one, 1024) for key, one in said.labels.items()}
    return CheckIn(
        facts=to_device_facts(
            device,
            said.capabilities,
            # A device that does not say sends 0, which would mean that it takes nothing.
            disk_free_bytes=number(said.disk_free_bytes, "free disk") or None,
            labels=labels,
        ),
        agent_version=clean(said.capabilities.agent_version, _SHORT_MAX),
        accepted_counter=number(said.assignment_counter, "assignment counter"),
        held=tuple(to_digest(one) for one in said.held_artifacts),
        models=tuple(_to_model_state(one) for one in said.models),
    )


def _to_model_state(said: delivery.ModelReport) -> ModelState:
    return ModelState(
        model=ModelName.parse(said.model),
        active=maybe_digest(said.active_artifact),
        active_version=Version.parse(said.active_version) if said.active_version else None,
        state=clean(said.state, 32),
        candidate=maybe_digest(said.candidate_artifact),
        reason=clean(said.reason),
    )


def to_event(said: delivery.Event) -> DeviceEvent:
    """Raises: UsageError, FormatError."""
    facts = sorted(said.facts.items())[:_FACTS_MAX]
    return DeviceEvent(
        number=number(said.number, "event number"),
        at_ms=said.at_ms,
        model=clean(said.model, 127),
        version=clean(said.version, _SHORT_MAX),
        artifact=maybe_digest(said.artifact),
        rollout=clean(said.rollout, 32),
        attempt=number(said.attempt, "attempt"),
        state=clean(said.state, 32),
        reason=clean(said.reason),
        message=clean(said.message),
        facts={clean(key, _SHORT_MAX): clean(value, 1024) for key, value in facts},
    )


def to_request(said: fleet.RolloutRequest) -> RolloutRequest:
    """Raises: FormatError."""
    return RolloutRequest(
        model=ModelName.parse(said.model),
        version=Version.parse(said.version),
        cohort=Cohort(
            devices=tuple(sorted(check_segment(one, "device") for one in said.cohort.devices)),
            selector=said.cohort.selector,
        ),
        retry=said.retry,
        together=tuple(
            (ModelName.parse(one.model), Version.parse(one.version)) for one in said.together
        ),
    )


def from_artifact(one: CatalogArtifact) -> fleet.Artifact:
    return fleet.Artifact(
        artifact=one.artifact.raw,
        model=str(one.model),
        version=str(one.version),
        variant=one.variant,
        parent="" if one.parent is None else str(one.parent),
        format=one.format,
        size_bytes=one.size_bytes,
        published_ms=one.published_ms,
        manifest=one.document,
    )


def from_device(record: DeviceRecord, assignment: Assignment, *, online: bool) -> fleet.Device:
    refusal = None
    if record.refusal is not None:
        refusal = fleet.Refusal(**asdict(record.refusal))
    return fleet.Device(
        refusal=refusal,
        device=record.device,
        labels=dict(record.facts.labels),
        first_seen_ms=record.first_seen_ms,
        last_seen_ms=record.last_seen_ms,
        online=online,
        models=_device_models(record, assignment),
        architecture=record.facts.architecture,
        memory_bytes=record.facts.memory_bytes,
        disk_free_bytes=record.facts.disk_free_bytes or 0,
        agent_version=record.agent_version,
        engines=[f"{one.name} {one.version}".strip() for one in record.facts.engines],
    )


def _device_models(record: DeviceRecord, assignment: Assignment) -> Iterable[fleet.DeviceModel]:
    """Assigned and running side by side: they are two different facts."""
    assigned = {one.model: one for one in assignment.models}
    said = {one.model: one for one in record.models}
    for model in sorted({*assigned, *said}):
        message = fleet.DeviceModel(model=str(model))
        if model in assigned:
            message.assigned_version = str(assigned[model].version)
            message.assigned_artifact = assigned[model].artifact.raw
        if model in said:
            running = said[model]
            message.running_version = str(running.active_version or "")
            message.running_artifact = raw_digest(running.active)
            message.state = running.state
            message.reason = running.reason
        yield message


def from_verdict(one: Verdict) -> fleet.VariantVerdict:
    return fleet.VariantVerdict(
        artifact=one.facts.artifact.raw,
        model=str(one.facts.model),
        version=str(one.facts.version),
        variant=one.facts.variant,
        fits=one.fits,
        chosen=one.chosen,
        reasons=one.reasons,
    )


def from_rollout(one: Rollout) -> fleet.Rollout:
    return fleet.Rollout(
        rollout=one.rollout,
        model=str(one.model),
        version=one.version,
        cohort=fleet.Cohort(devices=one.cohort.devices, selector=one.cohort.selector),
        state=one.state,
        reason=one.reason,
        created_ms=one.created_ms,
        devices=[_from_rollout_device(row) for row in one.devices],
        deltas_done=one.deltas_done,
        deltas_total=one.deltas_total,
        undoes=one.undoes,
        together=[
            fleet.ModelVersion(model=str(model), version=version) for model, version in one.together
        ],
    )


def _from_rollout_device(row: RolloutDevice) -> fleet.RolloutDevice:
    return fleet.RolloutDevice(
        device=row.device,
        version=row.version,
        variant=row.variant,
        artifact=raw_digest(row.artifact),
        state=row.state,
        reason=row.reason,
        message=row.message,
        wire_bytes=row.wire_bytes,
        whole_bytes=row.whole_bytes,
        changed_ms=row.changed_ms,
        facts=dict(row.facts),
        model=str(row.model),
    )


def to_mark(request: delivery.CheckInRequest) -> Mark | None:
    """Raises: FormatError."""
    if not request.mark and not request.previous_mark:
        return None
    if len(request.mark) != _MARK_BYTES or len(request.previous_mark) not in (0, _MARK_BYTES):
        raise FormatError(f"a mark of a check-in has {_MARK_BYTES} bytes")
    return Mark(previous=request.previous_mark.hex(), current=request.mark.hex())


def from_evidence(one: Evidence) -> fleet.Evidence:
    return fleet.Evidence(kind=one.kind, digest=one.digest.raw, signer=one.signer)


def from_required(one: Required) -> fleet.RequiredEvidence:
    return fleet.RequiredEvidence(
        kind=one.kind,
        keys=one.keys,
        authorities=one.authorities,
        identities=one.identities,
        builders=one.builders,
    )
