"""What an operator can order: begin a rollout, abort it, undo it; and the assigning in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from distributor.catalog import find_artifacts, get_artifact, variants_of
from distributor.devices import DeviceRecord, get_device, list_devices
from distributor.errors import NoVariantFitsError
from distributor.planning import (
    ArtifactFacts,
    MemoryInUse,
    Resolution,
    assign,
    choose,
    order,
    parse_selector,
    resolve,
    withdraw,
)
from distributor.rollouts.allowed import check_allowed, coming_with
from distributor.rollouts.assignments import read_assignment, write_assignment
from distributor.rollouts.before import before, entry_of
from distributor.rollouts.model import (
    ABORTED,
    ASSIGNED,
    BUILDING,
    COMMITTED,
    DONE,
    RECALLED,
    REFUSED,
    RUNNING,
    SUPERSEDED,
    Cohort,
    Rollout,
    RolloutDevice,
    RolloutRequest,
    Touched,
)
from distributor.rollouts.records import (
    attempts_before,
    finish_if_done,
    get_rollout,
    insert_rollout,
    newest_assigned,
    number_of,
    open_rows,
    save_device,
    set_state,
)
from edge_sdk.base import Digest, NotFoundError, RefusedError, Version
from edge_sdk.manifest import AssignedModel


def choose_devices(connection: Connection, cohort: Cohort) -> list[DeviceRecord]:
    """The devices of a cohort, by name.

    Raises: NotFoundError (a name is no device, or nothing matches), UsageError, FormatError.
    """
    known = {one.device: one for one in list_devices(connection)}
    unknown = sorted(set(cohort.devices) - set(known))
    if unknown:
        raise NotFoundError(
            f"no device {', '.join(unknown)} has ever checked in here; see: edge-fleet devices list"
        )
    names = choose(
        {name: one.facts.labels for name, one in known.items()},
        names=cohort.devices,
        selector=parse_selector(cohort.selector),
    )
    if not names:
        raise NotFoundError(
            f"no device matches {cohort.selector!r}"
            if cohort.selector
            else "no device has checked in here yet"
        )
    return [known[name] for name in names]


def resolve_for(
    connection: Connection, record: DeviceRecord, variants: Sequence[ArtifactFacts]
) -> Resolution:
    """Which of the variants of one version this device gets, with all that is known of it."""
    if not variants:
        return resolve(record.facts, variants)
    model = variants[0].model
    said = record.model(model)
    active = None if said is None or said.active is None else said.active
    others = [one.artifact for one in read_assignment(record).models if one.model != model]
    known = find_artifacts(connection, [*others, *([] if active is None else [active])])
    in_use = MemoryInUse(
        active_bytes=known[active].size_bytes if active in known else 0,
        other_bytes=sum(known[one].facts().requires.memory_bytes for one in others if one in known),
    )
    return resolve(record.facts, variants, in_use=in_use)


def create(connection: Connection, request: RolloutRequest, *, at_ms: int, by: str) -> Rollout:
    """A new rollout in state ``building``: who is in, who is out, and why.

    Raises: NotFoundError (no such version, no such device), UsageError, FormatError,
    RefusedError (no publisher signed it, or devices would refuse it as too old).
    """
    variants = [one.facts() for one in variants_of(connection, request.model, request.version)]
    records = choose_devices(connection, request.cohort)
    rows = tuple(_begin(connection, one, variants, request, at_ms) for one in records)
    check_allowed(connection, request.model, coming_with(rows))
    return insert_rollout(
        connection,
        Rollout(
            rollout="",
            model=request.model,
            version=str(request.version),
            cohort=request.cohort,
            state=BUILDING,
            created_ms=at_ms,
            retry=request.retry,
            devices=rows,
        ),
        by=by,
    )


def _begin(
    connection: Connection,
    record: DeviceRecord,
    variants: Sequence[ArtifactFacts],
    request: RolloutRequest,
    at_ms: int,
) -> RolloutDevice:
    resolution = resolve_for(connection, record, variants)
    chosen = resolution.chosen
    row = RolloutDevice(
        device=record.device,
        artifact=None if chosen is None else chosen.artifact,
        version=str(request.version),
        variant="" if chosen is None else chosen.variant,
        state=BUILDING,
        changed_ms=at_ms,
        previous=before(connection, record, request.model),
    )
    if chosen is None:
        return replace(
            row, state=REFUSED, reason=NoVariantFitsError.__name__, message=resolution.reason
        )
    said = record.model(request.model)
    entry = entry_of(record, request.model)
    there = said is not None and said.settled_on == chosen.artifact
    if there and entry is not None and entry.artifact == chosen.artifact:
        return replace(row, state=COMMITTED, message="it runs this already")
    return row


def assign_built(
    connection: Connection, rollout: str, built: Mapping[str, RolloutDevice], *, at_ms: int
) -> Touched:
    """Assigns the devices whose deltas are built, all at once, and starts the rollout.

    ``built`` maps devices to their rows after building: still ``building`` where there is a
    way, with its bytes, or final with a reason where there is none. Nothing happens to a
    rollout that was aborted meanwhile.
    """
    one = get_rollout(connection, rollout)
    if one.state != BUILDING:
        return Touched()
    touched = Touched(rollouts=frozenset([rollout]))
    for waiting in one.devices:
        row = built.get(waiting.device, waiting)
        if row.final:
            save_device(connection, rollout, row)
        else:
            touched |= _assign(connection, one, row, at_ms)
    set_state(connection, rollout, RUNNING)
    finish_if_done(connection, touched.rollouts)
    return touched


def _assign(connection: Connection, rollout: Rollout, row: RolloutDevice, at_ms: int) -> Touched:
    number = number_of(connection, rollout.rollout)
    if newest_assigned(connection, row.device, rollout.model) > number:
        late = replace(row, state=SUPERSEDED, message="a later rollout came first")
        save_device(connection, rollout.rollout, late)
        return Touched()
    record = get_device(connection, row.device)
    previous = before(connection, record, rollout.model)
    touched = _supersede(connection, rollout, row.device, at_ms)
    wanted = _wanted(connection, rollout, row)
    assignment = read_assignment(record)
    after = withdraw(assignment, rollout.model) if wanted is None else assign(assignment, wanted)
    if after is not assignment:
        after = write_assignment(connection, after, at_ms=at_ms)
        touched |= Touched(devices=frozenset([row.device]))
    save_device(
        connection,
        rollout.rollout,
        replace(
            row,
            state=ASSIGNED,
            attempt=0 if wanted is None else wanted.attempt,
            counter=max(after.counter, 1),
            previous=previous,
            changed_ms=at_ms,
        ),
    )
    return touched


def _wanted(connection: Connection, rollout: Rollout, row: RolloutDevice) -> AssignedModel | None:
    """The model's entry in the next assignment; none takes the model away."""
    if row.artifact is None:
        return None
    return order(
        get_artifact(connection, row.artifact).facts(),
        rollout=rollout.rollout,
        attempts_before=attempts_before(connection, row.device, row.artifact),
        retry=rollout.retry,
    )


def _supersede(connection: Connection, rollout: Rollout, device: str, at_ms: int) -> Touched:
    """Ends what earlier rollouts of the model still had under way on this device.

    The caller looks once for all devices whether those rollouts are over now: looking here
    read every row of them for each device (1,000 devices: 30 s instead of 6).
    """
    touched = set()
    for other, model, row in open_rows(connection, device):
        if model == str(rollout.model) and other != rollout.rollout:
            after = replace(
                row,
                state=SUPERSEDED,
                message=f"rollout {rollout.rollout} took its place",
                changed_ms=at_ms,
            )
            save_device(connection, other, after)
            touched.add(other)
    return Touched(rollouts=frozenset(touched))


def abort(connection: Connection, rollout: str, *, at_ms: int, by: str) -> Touched:
    """Ends a rollout: devices that have not committed go back to what they had before.

    That includes those on which it failed: they run it no more, and are not to try again.
    Aborting twice is once. Raises: NotFoundError, RefusedError (it is done already).
    """
    one = get_rollout(connection, rollout)
    if one.state == DONE:
        raise RefusedError(
            f"rollout {rollout} is done; to go back use: edge-fleet rollout undo {rollout}"
        )
    if one.state == ABORTED:
        return Touched()
    touched = Touched(rollouts=frozenset([rollout]))
    for row in one.devices:
        if row.state in (COMMITTED, REFUSED, SUPERSEDED):
            continue
        if not row.final:
            save_device(connection, rollout, _recalled(row, at_ms))
        if row.counter:
            touched |= _take_back(connection, one, row, at_ms)
    set_state(connection, rollout, ABORTED, f"aborted by {by}")
    return touched


def _recalled(row: RolloutDevice, at_ms: int) -> RolloutDevice:
    back = "nothing" if row.previous is None else f"{row.previous.version} {row.previous.variant}"
    message = f"goes back to {back}" if row.counter else "was not assigned yet"
    return replace(row, state=RECALLED, message=message, changed_ms=at_ms)


def _take_back(connection: Connection, rollout: Rollout, row: RolloutDevice, at_ms: int) -> Touched:
    """Assigns what the device had before, unless something else was assigned since."""
    record = get_device(connection, row.device)
    entry = entry_of(record, rollout.model)
    current = None if entry is None else entry.rollout
    if row.artifact is not None and current != rollout.rollout:
        return Touched()
    assignment = read_assignment(record)
    if row.previous is None:
        after = withdraw(assignment, rollout.model)
    else:
        after = assign(assignment, row.previous)
    if after is assignment:
        return Touched()
    write_assignment(connection, after, at_ms=at_ms)
    return Touched(devices=frozenset([row.device]))


def undo(connection: Connection, rollout: str, *, at_ms: int, by: str) -> Rollout:
    """A new rollout, in state ``building``, that takes the devices of this one back to what
    they were assigned before it.

    Left alone are devices that it never reached or that a later rollout took over.
    Raises: NotFoundError, RefusedError (it is still building, there is nothing to undo, or what
    they would go back to is not signed any more).
    """
    one = get_rollout(connection, rollout)
    if one.state == BUILDING:
        raise RefusedError(
            f"rollout {rollout} is still building; use: edge-fleet rollout abort {rollout}"
        )
    rows = []
    for row in one.devices:
        entry = entry_of(get_device(connection, row.device), one.model)
        current = None if entry is None else entry.rollout
        gone = row.artifact is None and row.counter > 0 and entry is None
        if current == rollout or gone:
            rows.append(_back(row, at_ms))
    if not rows:
        raise RefusedError(
            f"no device runs what rollout {rollout} assigned any more; there is nothing to undo"
        )
    check_allowed(connection, one.model, coming_with(rows))
    versions = {row.version for row in rows}
    return insert_rollout(
        connection,
        Rollout(
            rollout="",
            model=one.model,
            version=versions.pop() if len(versions) == 1 else "",
            cohort=Cohort(devices=tuple(row.device for row in rows)),
            state=BUILDING,
            created_ms=at_ms,
            undoes=rollout,
            devices=tuple(rows),
        ),
        by=by,
    )


def _back(row: RolloutDevice, at_ms: int) -> RolloutDevice:
    back = row.previous
    artifact: Digest | None = None if back is None else back.artifact
    version: Version | None = None if back is None else back.version
    return RolloutDevice(
        device=row.device,
        artifact=artifact,
        version="" if version is None else str(version),
        variant="" if back is None else back.variant,
        state=BUILDING,
        changed_ms=at_ms,
        message="" if back is not None else "the model is taken away: it had none before",
    )
