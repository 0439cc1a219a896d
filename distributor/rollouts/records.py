"""The rows of rollouts, written and read as values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import (
    Connection,
    Row,
    Subquery,
    and_,
    func,
    insert,
    select,
    union_all,
    update,
)

from distributor.rollouts.model import (
    BUILDING,
    DONE,
    FINAL_STATES,
    RUNNING,
    Cohort,
    Rollout,
    RolloutDevice,
)
from distributor.storage.tables import (
    device_artifacts,
    rollout_devices,
    rollout_together,
    rollouts,
)
from edge_sdk.base import Digest, ModelName, NotFoundError, Version
from edge_sdk.manifest import AssignedModel


def insert_rollout(connection: Connection, rollout: Rollout, *, by: str) -> Rollout:
    """Stores a new rollout with its devices; its name is made here."""
    number = (connection.execute(select(func.max(rollouts.c.number))).scalar() or 0) + 1
    named = replace(rollout, rollout=f"r{number}")
    connection.execute(
        insert(rollouts).values(
            rollout=named.rollout,
            number=number,
            model=str(named.model),
            version=named.version,
            cohort_devices=list(named.cohort.devices),
            cohort_selector=named.cohort.selector,
            state=named.state,
            reason=named.reason,
            retry=named.retry,
            undoes=named.undoes,
            created_ms=named.created_ms,
            created_by=by,
            deltas_done=named.deltas_done,
            deltas_total=named.deltas_total,
        )
    )
    rows = [
        {"rollout": named.rollout, "device": one.device, "model": str(one.model), **_values(one)}
        for one in named.devices
    ]
    for place, (model, version) in enumerate(named.together, 1):
        connection.execute(
            insert(rollout_together).values(
                rollout=named.rollout, model=str(model), version=version, place=place
            )
        )
    if rows:
        connection.execute(insert(rollout_devices), rows)
    return named


def save_device(connection: Connection, rollout: str, row: RolloutDevice) -> None:
    connection.execute(
        update(rollout_devices)
        .where(
            rollout_devices.c.rollout == rollout,
            rollout_devices.c.device == row.device,
            rollout_devices.c.model == str(row.model),
        )
        .values(**_values(row))
    )


def set_state(connection: Connection, rollout: str, state: str, reason: str = "") -> None:
    connection.execute(
        update(rollouts).where(rollouts.c.rollout == rollout).values(state=state, reason=reason)
    )


def note_built(connection: Connection, rollout: str, *, done: int, total: int) -> None:
    """How many of a rollout's deltas are built."""
    connection.execute(
        update(rollouts)
        .where(rollouts.c.rollout == rollout)
        .values(deltas_done=done, deltas_total=total)
    )


def finish_if_done(connection: Connection, wanted: Iterable[str]) -> None:
    """Ends the running rollouts among ``wanted`` in which every device is final."""
    for rollout in sorted(set(wanted)):
        moving = select(rollout_devices.c.device).where(
            rollout_devices.c.rollout == rollout,
            rollout_devices.c.state.not_in(sorted(FINAL_STATES)),
        )
        if connection.execute(moving.limit(1)).first() is None:
            connection.execute(
                update(rollouts)
                .where(rollouts.c.rollout == rollout, rollouts.c.state == RUNNING)
                .values(state=DONE)
            )


def get_rollout(connection: Connection, rollout: str) -> Rollout:
    """With its devices, by name. Raises: NotFoundError."""
    row = connection.execute(select(rollouts).where(rollouts.c.rollout == rollout)).first()
    if row is None:
        raise NotFoundError(f"there is no rollout {rollout!r}")
    rows = connection.execute(
        select(rollout_devices)
        .where(rollout_devices.c.rollout == rollout)
        .order_by(rollout_devices.c.device, rollout_devices.c.model)
    )
    one = _rollout(row, _together(connection, rollout_together.c.rollout == rollout))
    return replace(one, devices=tuple(_device(each) for each in rows))


def models_of(connection: Connection, rollout: str) -> list[ModelName]:
    """Which models a rollout is about. Raises: NotFoundError."""
    brought = _brought()
    query = select(brought.c.model).where(brought.c.rollout == rollout)
    found = [ModelName.parse(one) for one in connection.execute(query).scalars()]
    if not found:
        raise NotFoundError(f"there is no rollout {rollout!r}")
    return found


def list_rollouts(connection: Connection, model: ModelName | None) -> list[Rollout]:
    """All, or those that bring one model, newest first; without their devices."""
    query = select(rollouts).order_by(rollouts.c.number.desc())
    if model is not None:
        brought = _brought()
        about = select(brought.c.rollout).where(brought.c.model == str(model))
        query = query.where(rollouts.c.rollout.in_(about))
    together = _together(connection)
    return [_rollout(row, together) for row in connection.execute(query)]


def unfinished_builds(connection: Connection) -> list[str]:
    """Rollouts that were still building when the last process ended, oldest first."""
    query = select(rollouts.c.rollout).where(rollouts.c.state == BUILDING)
    return list(connection.execute(query.order_by(rollouts.c.number)).scalars())


def under_way(connection: Connection) -> list[tuple[str, Digest, frozenset[Digest]]]:
    """Rollout, target and what the device holds, for each device that a rollout which is not
    over may still bring there."""
    query = (
        select(
            rollout_devices.c.rollout,
            rollout_devices.c.artifact,
            rollout_devices.c.device,
            device_artifacts.c.artifact.label("held"),
        )
        .join(rollouts, rollouts.c.rollout == rollout_devices.c.rollout)
        .outerjoin(device_artifacts, device_artifacts.c.device == rollout_devices.c.device)
        .where(
            rollouts.c.state.in_([BUILDING, RUNNING]),
            rollout_devices.c.artifact.is_not(None),
            rollout_devices.c.state.not_in(sorted(FINAL_STATES)),
        )
    )
    held: dict[tuple[str, str, str], set[Digest]] = {}
    for row in connection.execute(query):
        has = held.setdefault((row.rollout, row.artifact, row.device), set())
        if row.held is not None:
            has.add(Digest.parse(row.held))
    alike = {(rollout, target, frozenset(has)) for (rollout, target, _), has in held.items()}
    found = [(rollout, Digest.parse(target), has) for rollout, target, has in alike]
    return sorted(found, key=lambda one: (one[0], str(one[1]), sorted(map(str, one[2]))))


def newest_targets(connection: Connection) -> set[Digest]:
    """What the newest rollout of each model brings to devices."""
    brought = _brought()
    newest = (
        select(brought.c.model, func.max(brought.c.number).label("number"))
        .group_by(brought.c.model)
        .subquery()
    )
    query = (
        select(rollout_devices.c.artifact)
        .join(rollouts, rollouts.c.rollout == rollout_devices.c.rollout)
        .join(
            newest,
            and_(newest.c.number == rollouts.c.number, newest.c.model == rollout_devices.c.model),
        )
        .where(rollout_devices.c.artifact.is_not(None))
        .distinct()
    )
    return {Digest.parse(one) for one in connection.execute(query).scalars() if one is not None}


def attempts_before(connection: Connection, device: str, artifact: Digest) -> int:
    """How often this artifact was ordered for this device; 0: never."""
    most = connection.execute(
        select(func.max(rollout_devices.c.attempt)).where(
            rollout_devices.c.device == device,
            rollout_devices.c.artifact == str(artifact),
            rollout_devices.c.counter > 0,
        )
    ).scalar()
    return int(most or 0)


def open_rows(connection: Connection, device: str) -> list[tuple[str, RolloutDevice]]:
    """(rollout, row) of a device where the row was assigned and is not final."""
    return _rows_of(
        connection,
        rollout_devices.c.device == device,
        rollout_devices.c.counter > 0,
        rollout_devices.c.state.not_in(sorted(FINAL_STATES)),
    )


def unfinished_rows(connection: Connection, device: str) -> list[tuple[str, RolloutDevice]]:
    """(rollout, row) of a device where more is expected of it, assigned or still building."""
    return _rows_of(
        connection,
        rollout_devices.c.device == device,
        rollout_devices.c.state.not_in(sorted(FINAL_STATES)),
    )


def rows_about(
    connection: Connection, device: str, artifact: Digest
) -> list[tuple[str, RolloutDevice]]:
    """(rollout, row) of a device about one artifact."""
    return _rows_of(
        connection,
        rollout_devices.c.device == device,
        rollout_devices.c.artifact == str(artifact),
        rollout_devices.c.counter > 0,
    )


def newest_assigned(connection: Connection, device: str, model: ModelName) -> int:
    """Number of the newest rollout that brought ``model`` to the device; 0: none."""
    most = connection.execute(
        select(func.max(rollouts.c.number))
        .join(rollout_devices, rollout_devices.c.rollout == rollouts.c.rollout)
        .where(
            rollout_devices.c.model == str(model),
            rollout_devices.c.device == device,
            rollout_devices.c.counter > 0,
        )
    ).scalar()
    return int(most or 0)


def versions_assigned(connection: Connection, device: str, model: ModelName) -> list[Version]:
    """Every version of the model that was ever assigned to the device."""
    query = select(rollout_devices.c.version).where(
        rollout_devices.c.device == device,
        rollout_devices.c.model == str(model),
        rollout_devices.c.counter > 0,
        rollout_devices.c.artifact.is_not(None),
    )
    return [Version.parse(one) for one in connection.execute(query.distinct()).scalars()]


def number_of(connection: Connection, rollout: str) -> int:
    return int(
        connection.execute(
            select(rollouts.c.number).where(rollouts.c.rollout == rollout)
        ).scalar_one()
    )


def _brought() -> Subquery:
    """Every model that a rollout brings, with the rollout and its number."""
    also = select(rollout_together.c.model, rollouts.c.rollout, rollouts.c.number).join(
        rollouts, rollouts.c.rollout == rollout_together.c.rollout
    )
    first = select(rollouts.c.model, rollouts.c.rollout, rollouts.c.number)
    return union_all(first, also).subquery()


def _together(
    connection: Connection, *conditions: Any
) -> dict[str, tuple[tuple[ModelName, str], ...]]:
    """What comes with the first models of rollouts, by rollout."""
    query = select(rollout_together).where(*conditions).order_by(rollout_together.c.place)
    found: dict[str, tuple[tuple[ModelName, str], ...]] = {}
    for row in connection.execute(query):
        also = (ModelName.parse(row.model), row.version)
        found[row.rollout] = (*found.get(row.rollout, ()), also)
    return found


def _rows_of(connection: Connection, *conditions: Any) -> list[tuple[str, RolloutDevice]]:
    query = (
        select(rollout_devices)
        .join(rollouts, rollouts.c.rollout == rollout_devices.c.rollout)
        .where(*conditions)
        .order_by(rollouts.c.number)
    )
    return [(row.rollout, _device(row)) for row in connection.execute(query)]


def _values(one: RolloutDevice) -> dict[str, Any]:
    return {
        "artifact": None if one.artifact is None else str(one.artifact),
        "version": one.version,
        "variant": one.variant,
        "attempt": one.attempt,
        "state": one.state,
        "reason": one.reason,
        "message": one.message,
        "counter": one.counter,
        "event": one.event,
        "wire_bytes": one.wire_bytes,
        "whole_bytes": one.whole_bytes,
        "changed_ms": one.changed_ms,
        "facts": dict(one.facts),
        "previous": None if one.previous is None else _write_entry(one.previous),
    }


def _device(row: Row[Any]) -> RolloutDevice:
    return RolloutDevice(
        device=row.device,
        model=ModelName.parse(row.model),
        artifact=None if row.artifact is None else Digest.parse(row.artifact),
        version=row.version,
        variant=row.variant,
        attempt=row.attempt,
        state=row.state,
        reason=row.reason,
        message=row.message,
        counter=row.counter,
        event=row.event,
        wire_bytes=row.wire_bytes,
        whole_bytes=row.whole_bytes,
        changed_ms=row.changed_ms,
        facts=row.facts,
        previous=None if row.previous is None else _read_entry(row.previous),
    )


def _rollout(row: Row[Any], together: Mapping[str, tuple[tuple[ModelName, str], ...]]) -> Rollout:
    return Rollout(
        rollout=row.rollout,
        model=ModelName.parse(row.model),
        version=row.version,
        cohort=Cohort(devices=tuple(row.cohort_devices), selector=row.cohort_selector),
        state=row.state,
        reason=row.reason,
        retry=row.retry,
        undoes=row.undoes,
        created_ms=row.created_ms,
        deltas_done=row.deltas_done,
        deltas_total=row.deltas_total,
        together=together.get(row.rollout, ()),
    )


def _write_entry(entry: AssignedModel) -> Any:
    return msgspec.to_builtins(entry, enc_hook=str)


def _read_entry(stored: Any) -> AssignedModel:
    def parse(wanted: type, text: Any) -> Any:
        if wanted in (Digest, ModelName, Version):
            return wanted.parse(text)
        raise NotImplementedError(wanted)

    return msgspec.convert(stored, AssignedModel, dec_hook=parse)
