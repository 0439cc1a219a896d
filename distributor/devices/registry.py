"""The rows of devices, written at each check-in and read as values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, insert, null, select, update

from distributor.devices.capabilities import read_facts, write_facts
from distributor.devices.model import CheckIn, DeviceRecord, ModelState, Refusal
from distributor.storage.tables import device_artifacts, device_models, devices
from edge_sdk.base import Digest, ModelName, NotFoundError, Version, check_segment

_IN_MAX = 500


def record_check_in(connection: Connection, check_in: CheckIn, *, at_ms: int) -> DeviceRecord:
    """Stores what a device says of itself; one that was never seen is registered."""
    device = check_in.facts.device
    said = {
        "declared_labels": dict(check_in.facts.labels),
        "capabilities": write_facts(check_in.facts),
        "last_seen_ms": at_ms,
        "disk_free_bytes": check_in.facts.disk_free_bytes,
        "agent_version": check_in.agent_version,
        "accepted_counter": check_in.accepted_counter,
    }
    # An assignment taken up is the end of whatever kept the device from it.
    connection.execute(
        update(devices)
        .where(
            devices.c.device == device,
            devices.c.refusal.is_not(None),
            devices.c.accepted_counter < check_in.accepted_counter,
        )
        .values(refusal=null())
    )
    changed = connection.execute(update(devices).where(devices.c.device == device).values(**said))
    if changed.rowcount == 0:
        first = {
            "device": device,
            "operator_labels": {},
            "first_seen_ms": at_ms,
            "assigned_counter": 0,
            "acknowledged_event": 0,
        }
        connection.execute(insert(devices).values(**said, **first))
    connection.execute(delete(device_artifacts).where(device_artifacts.c.device == device))
    held = [{"device": device, "artifact": str(one)} for one in dict.fromkeys(check_in.held)]
    if held:
        connection.execute(insert(device_artifacts), held)
    connection.execute(delete(device_models).where(device_models.c.device == device))
    models = {one.model: _model_row(device, one) for one in check_in.models}
    if models:
        connection.execute(insert(device_models), list(models.values()))
    return get_device(connection, device)


def get_device(connection: Connection, device: str) -> DeviceRecord:
    """Raises: NotFoundError."""
    found = find_devices(connection, [device])
    if not found:
        raise NotFoundError(f"no device {device!r} has ever checked in here", device=device)
    return found[0]


def find_devices(connection: Connection, names: Collection[str]) -> list[DeviceRecord]:
    """Those of ``names`` that are registered, by name."""
    found: list[DeviceRecord] = []
    wanted = sorted(set(names))
    for start in range(0, len(wanted), _IN_MAX):
        part = wanted[start : start + _IN_MAX]
        found += _read(
            connection,
            select(devices).where(devices.c.device.in_(part)),
            select(device_artifacts).where(device_artifacts.c.device.in_(part)),
            select(device_models).where(device_models.c.device.in_(part)),
        )
    return found


def list_devices(connection: Connection) -> list[DeviceRecord]:
    """All devices, by name."""
    return _read(connection, select(devices), select(device_artifacts), select(device_models))


def running_on(connection: Connection, model: ModelName | None) -> dict[Digest, int]:
    """How many devices run each artifact, by their last check-ins and events."""
    query = select(device_models.c.active_artifact, func.count()).where(
        device_models.c.active_artifact.is_not(None)
    )
    if model is not None:
        query = query.where(device_models.c.model == str(model))
    rows = connection.execute(query.group_by(device_models.c.active_artifact))
    return {Digest.parse(artifact): count for artifact, count in rows}


def label_device(
    connection: Connection, device: str, *, put: Mapping[str, str], remove: Iterable[str]
) -> DeviceRecord:
    """Sets and removes labels; what the operator says outweighs what the device declares.

    Raises: NotFoundError, FormatError (a label is no name).
    """
    get_device(connection, device)
    row = connection.execute(select(devices).where(devices.c.device == device)).one()
    labels: dict[str, str | None] = dict(row.operator_labels)
    for key in remove:
        labels[check_segment(key, "label")] = None
    for key, value in put.items():
        labels[check_segment(key, "label")] = value
    connection.execute(
        update(devices).where(devices.c.device == device).values(operator_labels=labels)
    )
    return get_device(connection, device)


def note_update(
    connection: Connection, device: str, state: ModelState, *, holds: Digest | None
) -> None:
    """What an event says of one model, until the next check-in says all of it again.

    ``holds``: an artifact that the device has proved and can build on from now.
    """
    where = (device_models.c.device == device, device_models.c.model == str(state.model))
    connection.execute(delete(device_models).where(*where))
    connection.execute(insert(device_models).values(**_model_row(device, state)))
    if holds is None:
        return
    held = (device_artifacts.c.device == device, device_artifacts.c.artifact == str(holds))
    connection.execute(delete(device_artifacts).where(*held))
    connection.execute(insert(device_artifacts).values(device=device, artifact=str(holds)))


def note_refusal(connection: Connection, device: str, refusal: Refusal | None) -> None:
    """What the device refused; None: it took something up, so that is over."""
    value: Any = null() if refusal is None else asdict(refusal)
    connection.execute(update(devices).where(devices.c.device == device).values(refusal=value))


def _model_row(device: str, one: ModelState) -> dict[str, Any]:
    return {
        "device": device,
        "model": str(one.model),
        "active_artifact": None if one.active is None else str(one.active),
        "active_version": None if one.active_version is None else str(one.active_version),
        "state": one.state,
        "candidate_artifact": None if one.candidate is None else str(one.candidate),
        "reason": one.reason,
    }


def _read(
    connection: Connection,
    of_devices: Select[Any],
    of_artifacts: Select[Any],
    of_models: Select[Any],
) -> list[DeviceRecord]:
    held: dict[str, list[Digest]] = defaultdict(list)
    for row in connection.execute(of_artifacts.order_by(device_artifacts.c.artifact)):
        held[row.device].append(Digest.parse(row.artifact))
    models: dict[str, list[ModelState]] = defaultdict(list)
    for row in connection.execute(of_models.order_by(device_models.c.model)):
        models[row.device].append(_model(row))
    rows = connection.execute(of_devices.order_by(devices.c.device))
    return [_device(row, held[row.device], models[row.device]) for row in rows]


def _model(row: Row[Any]) -> ModelState:
    return ModelState(
        model=ModelName.parse(row.model),
        active=None if row.active_artifact is None else Digest.parse(row.active_artifact),
        active_version=None if row.active_version is None else Version.parse(row.active_version),
        state=row.state,
        candidate=None if row.candidate_artifact is None else Digest.parse(row.candidate_artifact),
        reason=row.reason,
    )


def _device(row: Row[Any], held: list[Digest], models: list[ModelState]) -> DeviceRecord:
    labels = {**row.declared_labels, **row.operator_labels}
    return DeviceRecord(
        facts=read_facts(
            row.device,
            row.capabilities,
            disk_free_bytes=row.disk_free_bytes,
            labels={key: value for key, value in sorted(labels.items()) if value is not None},
        ),
        agent_version=row.agent_version,
        first_seen_ms=row.first_seen_ms,
        last_seen_ms=row.last_seen_ms,
        accepted_counter=row.accepted_counter,
        assigned_counter=row.assigned_counter,
        assignment=None if row.assignment is None else bytes(row.assignment),
        acknowledged_event=row.acknowledged_event,
        held=tuple(held),
        models=tuple(models),
        refusal=None if row.refusal is None else Refusal(**row.refusal),
    )
