"""A device's newest assignment document: its whole desired state, and the number it has."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, update

from distributor.devices import DeviceRecord, get_device
from distributor.planning import empty_assignment
from distributor.storage.tables import devices
from edge_sdk.manifest import Assignment, decode_assignment, encode_assignment


def read_assignment(record: DeviceRecord) -> Assignment:
    """What the device should run; an empty one with counter 0 where nobody ordered anything."""
    if record.assignment is None:
        return empty_assignment(record.device)
    return decode_assignment(record.assignment)


def write_assignment(connection: Connection, assignment: Assignment) -> Assignment:
    """Stores a device's next assignment. Its counter is above every one the device has seen,
    also where this catalog was restored from an older copy."""
    record = get_device(connection, assignment.device)
    seen = max(record.assigned_counter, record.accepted_counter)
    numbered = replace(assignment, counter=max(assignment.counter, seen + 1))
    connection.execute(
        update(devices)
        .where(devices.c.device == assignment.device)
        .values(assigned_counter=numbered.counter, assignment=encode_assignment(numbered))
    )
    return numbered


def newer_assignment(connection: Connection, device: str) -> bytes:
    """The document to send to a device after its check-in; empty where it has the newest."""
    record = get_device(connection, device)
    if record.assignment is None or record.accepted_counter == record.assigned_counter:
        return b""
    if record.accepted_counter > record.assigned_counter:
        # The device saw numbers that this catalog forgot: it would refuse ours as old.
        return encode_assignment(write_assignment(connection, read_assignment(record)))
    return record.assignment
