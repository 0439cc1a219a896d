"""How events and check-ins move a device of a rollout. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from distributor.devices.model import ModelState
from distributor.rollouts.model import (
    COMMITTED,
    DECIDED_HERE,
    DEVICE_STATES,
    SAID_BY_DEVICE,
    RolloutDevice,
)
from edge_sdk.base.digest import Digest
from edge_sdk.base.errors import FormatError
from edge_sdk.base.names import ModelName, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent:
    """One event of a device. ``number`` grows by one each time; ``artifact`` may be none."""

    number: int
    at_ms: int
    model: str
    version: str
    artifact: Digest | None
    rollout: str
    attempt: int
    state: str
    reason: str = ""
    message: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)


def advance(row: RolloutDevice, event: DeviceEvent, *, at_ms: int) -> RolloutDevice:
    """``row`` after ``event``; the same value where the event says nothing about it.

    The newest event counts, so a repeated or late one never takes a device back. What was
    decided here (refused, superseded, recalled, revoked) stays.
    """
    about = (
        row.counter > 0
        and row.state not in DECIDED_HERE
        and event.artifact == row.artifact
        and event.attempt == row.attempt
        and event.number > row.event
        and event.state in DEVICE_STATES
    )
    if not about:
        return row
    return replace(
        row,
        state=event.state,
        reason=event.reason,
        message=event.message,
        event=event.number,
        changed_ms=at_ms,
        wire_bytes=_count(event.facts.get("wire_bytes"), row.wire_bytes),
        facts={**row.facts, **event.facts},
    )


def held_back(row: RolloutDevice, event: DeviceEvent, *, at_ms: int) -> RolloutDevice:
    """``row`` with the reason why its device takes nothing up, where it has not begun yet.

    Only the check is named: what the device says may be about models of any namespace.
    """
    if row.event > 0 or row.final:
        return row
    check = event.facts.get("check", "")
    what = f"not taken up ({check})" if check else "not taken up"
    message = f"{what}; edge-fleet explain {row.device} says more"
    if (row.reason, row.message) == (event.reason, message):
        return row
    return replace(row, reason=event.reason, message=message, changed_ms=at_ms)


def settled(
    row: RolloutDevice, *, accepted_counter: int, settled_on: Digest | None, at_ms: int
) -> RolloutDevice:
    """``row`` after a check-in of a device that may be where it should be already.

    A device that runs the very artifact makes no update of it and so has no event to tell:
    digests are compared, not words. Nor has one that only had to unload a model.
    """
    arrived = not row.final and 0 < row.counter <= accepted_counter and settled_on == row.artifact
    if not arrived:
        return row
    facts = {**row.facts, **({"removed": "true"} if row.artifact is None else {})}
    return replace(row, state=COMMITTED, reason="", message="", changed_ms=at_ms, facts=facts)


def shown(before: ModelState | None, event: DeviceEvent) -> ModelState | None:
    """What a device runs after ``event``, given what was known; none where it does not say.

    Only ``committed`` changes what is active. A failure leaves it as it was, at rest, with
    the reason beside it.
    """
    if event.artifact is None or event.state not in DEVICE_STATES:
        return None
    try:
        model, version = ModelName.parse(event.model), Version.parse(event.version)
    except FormatError:
        return None
    if event.state == COMMITTED:
        return ModelState(
            model=model, active=event.artifact, active_version=version, state=COMMITTED
        )
    known = before or ModelState(model=model, active=None, active_version=None, state="")
    if event.state in SAID_BY_DEVICE:
        if known.active in (None, event.artifact):
            # Nothing is left, or something that only the next check-in can name.
            known = replace(known, active=None, active_version=None)
        rest = event.state if known.active is None else COMMITTED
        return replace(known, state=rest, candidate=None, reason=event.reason)
    return replace(known, state=event.state, candidate=event.artifact, reason="")


def _count(text: str | None, otherwise: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 18:
        return otherwise
    return int(text)
