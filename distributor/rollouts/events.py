"""Events of devices: stored once each, in order, and counted in the rollouts they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, insert, update

from distributor.devices import DeviceRecord, Refusal, get_device, note_refusal, note_update
from distributor.rollouts.model import COMMITTED, DEVICE_STATES, REFUSED, Touched
from distributor.rollouts.progress import DeviceEvent, advance, held_back, settled, shown
from distributor.rollouts.records import finish_if_done, open_rows, rows_about, save_device
from distributor.storage.tables import devices, events


def store_events(
    connection: Connection, device: str, new: Sequence[DeviceEvent], *, at_ms: int
) -> tuple[int, Touched]:
    """Stores those that are newer than the last acknowledged one.

    Returns the number up to which everything is stored, and what changed. A second delivery
    of the same events changes nothing. Raises: NotFoundError (the device never checked in).
    """
    record = get_device(connection, device)
    acknowledged = record.acknowledged_event
    known = {str(one.model): one for one in record.models}
    fresh = {one.number: one for one in new if one.number > acknowledged}
    touched: set[str] = set()
    for event in (fresh[number] for number in sorted(fresh)):
        touched |= _count(connection, device, event, at_ms=at_ms)
        if event.state == REFUSED or (record.refusal and event.state in DEVICE_STATES):
            record = replace(record, refusal=_refusal(event))
            note_refusal(connection, device, record.refusal)
        if event.state == REFUSED:
            touched |= _wait_because(connection, device, event, at_ms=at_ms)
        state = shown(known.get(event.model), event)
        if state is not None:
            known[event.model] = state
            holds = event.artifact if event.state == COMMITTED else None
            note_update(connection, device, state, holds=holds)
    if fresh:
        connection.execute(
            insert(events), [_row(device, fresh[number], at_ms) for number in sorted(fresh)]
        )
        acknowledged = max(fresh)
        connection.execute(
            update(devices)
            .where(devices.c.device == device)
            .values(acknowledged_event=acknowledged)
        )
        finish_if_done(connection, touched)
    return acknowledged, Touched(rollouts=frozenset(touched))


def settle(connection: Connection, record: DeviceRecord, *, at_ms: int) -> Touched:
    """Ends the rollouts' rows of a device that says it is where it should be already."""
    touched: set[str] = set()
    for rollout, row in open_rows(connection, record.device):
        said = record.model(row.model)
        after = settled(
            row,
            accepted_counter=record.accepted_counter,
            settled_on=None if said is None else said.settled_on,
            at_ms=at_ms,
        )
        if after is not row:
            save_device(connection, rollout, after)
            touched.add(rollout)
    finish_if_done(connection, touched)
    return Touched(rollouts=frozenset(touched))


def _count(connection: Connection, device: str, event: DeviceEvent, *, at_ms: int) -> set[str]:
    if event.artifact is None:
        return set()
    touched = set()
    for rollout, row in rows_about(connection, device, event.artifact):
        if str(row.model) != event.model or (event.rollout != rollout and row.final):
            continue  # what was over is moved only by events that name that very rollout
        after = advance(row, event, at_ms=at_ms)
        if after is not row:
            save_device(connection, rollout, after)
            touched.add(rollout)
    return touched


def _wait_because(
    connection: Connection, device: str, event: DeviceEvent, *, at_ms: int
) -> set[str]:
    """What a device refuses keeps its rollouts waiting."""
    touched = set()
    for rollout, row in open_rows(connection, device):
        after = held_back(row, event, at_ms=at_ms)
        if after is not row:
            save_device(connection, rollout, after)
            touched.add(rollout)
    return touched


def _refusal(event: DeviceEvent) -> Refusal | None:
    """What the event says was not believed; None: it is about something taken up."""
    if event.state != REFUSED:
        return None
    return Refusal(
        at_ms=event.at_ms,
        reason=event.reason,
        check=event.facts.get("check", ""),
        message=event.message,
    )


def _row(device: str, event: DeviceEvent, at_ms: int) -> dict[str, object]:
    return {
        "device": device,
        "number": event.number,
        "at_ms": event.at_ms,
        "received_ms": at_ms,
        "model": event.model,
        "version": event.version,
        "artifact": "" if event.artifact is None else str(event.artifact),
        "rollout": event.rollout,
        "attempt": event.attempt,
        "state": event.state,
        "reason": event.reason,
        "message": event.message,
        "facts": dict(event.facts),
    }
