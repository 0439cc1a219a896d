"""A device's newest assignment document: its whole desired state, and the number it has."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, update

from distributor.devices import DeviceRecord, get_device
from distributor.planning import empty_assignment
from distributor.storage.tables import devices
from edge_sdk.manifest import Assignment, decode_assignment, encode_assignment

# Whoever keeps an assignment back cannot have a device take it up later than this. Devices go
# on running what is there whatever has expired.
_LIFE_S = 30 * 86_400


def read_assignment(record: DeviceRecord) -> Assignment:
    """What the device should run; an empty one with counter 0 where nobody ordered anything."""
    if record.assignment is None:
        return empty_assignment(record.device)
    return decode_assignment(record.assignment)


def write_assignment(connection: Connection, assignment: Assignment, *, at_ms: int) -> Assignment:
    """Stores a device's next assignment. Its counter is above every one the device has seen,
    also where this catalog was restored from an older copy."""
    record = get_device(connection, assignment.device)
    seen = max(record.assigned_counter, record.accepted_counter)
    numbered = replace(
        assignment,
        counter=max(assignment.counter, seen + 1),
        expires_s=at_ms // 1000 + _LIFE_S,
    )
    connection.execute(
        update(devices)
        .where(devices.c.device == assignment.device)
        .values(assigned_counter=numbered.counter, assignment=encode_assignment(numbered))
    )
    return numbered


def newer_assignment(connection: Connection, device: str, *, at_ms: int) -> bytes:
    """The document to send to a device after its check-in; empty where it has the newest."""
    record = get_device(connection, device)
    if record.assignment is None:
        return b""
    assignment = read_assignment(record)
    # A device that saw numbers which this catalog forgot would refuse ours as old.
    forgotten = record.accepted_counter > record.assigned_counter
    if forgotten or _is_ageing(assignment, at_ms // 1000):
        return encode_assignment(write_assignment(connection, assignment, at_ms=at_ms))
    return b"" if record.accepted_counter == record.assigned_counter else record.assignment


def _is_ageing(assignment: Assignment, now_s: int) -> bool:
    """Whether it is time to say the same again, long before a device could meet it expired."""
    return assignment.expires_s is not None and assignment.expires_s - now_s < _LIFE_S // 2
