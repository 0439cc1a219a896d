"""What a device goes back to: what it was to run, or ran, before a rollout."""

from __future__ import annotations

from sqlalchemy import Connection

from distributor.catalog import find_artifacts
from distributor.devices import DeviceRecord
from distributor.rollouts.assignments import read_assignment
from distributor.rollouts.model import COMMITTED, SAID_BY_DEVICE
from distributor.rollouts.records import rows_about
from edge_sdk.base import Digest, ModelName
from edge_sdk.manifest import AssignedModel


def entry_of(record: DeviceRecord, model: ModelName) -> AssignedModel | None:
    """The model's entry in the device's newest assignment."""
    return next((one for one in read_assignment(record).models if one.model == model), None)


def before(connection: Connection, record: DeviceRecord, model: ModelName) -> AssignedModel | None:
    """What going back means for this device: what it is assigned, unless that failed on it;
    then what it runs in its place. None: the model goes away."""
    entry = entry_of(record, model)
    if entry is not None and not _failed(connection, record.device, entry):
        return entry
    said = record.model(model)
    if said is None or said.active is None:
        return None
    return _as_ordered(connection, record.device, said.active)


def _failed(connection: Connection, device: str, entry: AssignedModel) -> bool:
    states = {
        row.state
        for rollout, row in rows_about(connection, device, entry.artifact)
        if rollout == entry.rollout
    }
    return bool(states & (SAID_BY_DEVICE - {COMMITTED}))


def _as_ordered(connection: Connection, device: str, artifact: Digest) -> AssignedModel | None:
    """The entry by which the artifact once came; none where this catalog does not know it."""
    known = find_artifacts(connection, [artifact]).get(artifact)
    if known is None:
        return None
    rows = rows_about(connection, device, artifact)
    return AssignedModel(
        model=known.model,
        version=known.version,
        variant=known.variant,
        artifact=artifact,
        floor=None,
        rollout=rows[-1][0] if rows else "",
        attempt=rows[-1][1].attempt if rows else 1,
    )
