"""Several models that come to a device as one group: all of them or none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from sqlalchemy import Connection

from distributor.catalog import find_artifacts
from distributor.devices import DeviceRecord
from distributor.errors import NoVariantFitsError
from distributor.planning import ArtifactFacts, MemoryInUse, Resolution, resolve
from distributor.rollouts.assignments import read_assignment
from distributor.rollouts.before import entry_of
from distributor.rollouts.model import FAILED, REFUSED, RolloutDevice
from edge_sdk.base import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What a device gets of one model: a variant, or none and why (``refusal``)."""

    model: ModelName
    variant: ArtifactFacts | None
    refusal: str = ""


def resolve_for(
    connection: Connection,
    record: DeviceRecord,
    variants: Sequence[ArtifactFacts],
    *,
    beside: Iterable[ArtifactFacts] = (),
) -> Resolution:
    """Which of the variants of one version this device gets, with all that is known of it.

    beside: what was chosen for other models of the same group, which are loaded at the same
    time, each beside the version that it replaces.
    """
    if not variants:
        return resolve(record.facts, variants)
    model = variants[0].model
    coming = {one.model: one for one in beside}
    assigned = {one.model: one.artifact for one in read_assignment(record).models}
    others = [one for name, one in assigned.items() if name != model and name not in coming]
    active = {name: said.active for name in (model, *coming) if (said := record.model(name))}
    known = find_artifacts(connection, [*others, *(one for one in active.values() if one)])

    def active_bytes(name: ModelName) -> int:
        artifact = active.get(name)
        return known[artifact].size_bytes if artifact in known else 0

    in_use = MemoryInUse(
        active_bytes=active_bytes(model),
        other_bytes=sum(known[one].facts().requires.memory_bytes for one in others if one in known)
        + sum(
            max(one.requires.memory_bytes, one.size_bytes + active_bytes(name))
            for name, one in coming.items()
        ),
    )
    return resolve(record.facts, variants, in_use=in_use)


def resolve_together(
    connection: Connection,
    record: DeviceRecord,
    variants: Mapping[ModelName, Sequence[ArtifactFacts]],
) -> list[Chosen]:
    """The variant of each model; where one has none that fits, none of them has, with why.

    What is named first is chosen first; later ones have the memory that is left.
    """
    found: dict[ModelName, ArtifactFacts] = {}
    for model, own in variants.items():
        resolution = resolve_for(connection, record, own, beside=found.values())
        if resolution.chosen is None:
            return [
                Chosen(
                    model=one,
                    variant=None,
                    refusal=resolution.reason
                    if one == model
                    else because_of(model, own[0].version, resolution.reason),
                )
                for one in variants
            ]
        found[model] = resolution.chosen
    return [Chosen(model=model, variant=one) for model, one in found.items()]


def refused(row: RolloutDevice, chosen: Chosen) -> RolloutDevice:
    """``row`` of a device that gets nothing of it."""
    return replace(
        row,
        artifact=None,
        variant="",
        state=REFUSED,
        reason=NoVariantFitsError.__name__,
        message=chosen.refusal,
    )


def by_device(rows: Iterable[RolloutDevice]) -> Iterator[list[RolloutDevice]]:
    """The rows of each device; they come by device and model."""
    for _, own in groupby(rows, key=lambda row: row.device):
        yield list(own)


def all_or_none(rows: Sequence[RolloutDevice]) -> list[RolloutDevice]:
    """The rows of one device; where one of them cannot come, none does. Pure."""
    lost = next((row for row in rows if row.state in (REFUSED, FAILED)), None)
    if lost is None:
        return list(rows)
    message = because_of(lost.model, lost.version, lost.message)
    return [
        row if row.final else replace(row, state=lost.state, reason=lost.reason, message=message)
        for row in rows
    ]


def because_of(model: ModelName, version: object, reason: str) -> str:
    return f"{model} {version}, of the same group: {reason}"


def has_arrived(record: DeviceRecord, models: Iterable[ModelName]) -> bool:
    """Whether the device runs, for good, all that it is assigned of these models."""
    for model in models:
        entry, said = entry_of(record, model), record.model(model)
        if entry is None or said is None or said.settled_on != entry.artifact:
            return False
    return True
