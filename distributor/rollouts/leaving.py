"""Devices that were thrown out: no rollout waits for them."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from distributor.identity import State, list_identities
from distributor.rollouts.model import REVOKED, Touched
from distributor.rollouts.records import finish_if_done, save_device, unfinished_rows

_STATES = (State.REVOKED, State.CLONED)


def thrown_out(connection: Connection) -> dict[str, State]:
    """Devices whose key is refused, until they enrol with another one."""
    return {
        one.name: one.state
        for state in _STATES
        for one in list_identities(connection, kind="device", state=state)
    }


def leave(connection: Connection, device: str, reason: str, *, at_ms: int) -> Touched:
    """Takes a device out of every rollout that waits for it, and ends those that waited for it
    alone. What it is assigned stays: a device that comes back with another key goes on there.
    """
    touched = set()
    for rollout, row in unfinished_rows(connection, device):
        after = replace(
            row,
            state=REVOKED,
            message=f"out of the rollout, as the device is refused: {reason}",
            changed_ms=at_ms,
        )
        save_device(connection, rollout, after)
        touched.add(rollout)
    finish_if_done(connection, touched)
    return Touched(rollouts=frozenset(touched))


def leave_all(connection: Connection, *, at_ms: int) -> Touched:
    """The same for every device that is refused already."""
    touched = Touched()
    for state in _STATES:
        for one in list_identities(connection, kind="device", state=state):
            touched |= leave(connection, one.name, one.reason, at_ms=at_ms)
    return touched
