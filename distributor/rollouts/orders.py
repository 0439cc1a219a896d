"""What an operator can order: begin a rollout, abort it, undo it; and the assigning in between."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import Connection

from distributor.catalog import get_artifact, variants_of
from distributor.devices import DeviceRecord, get_device, list_devices
from distributor.planning import ArtifactFacts, change, choose, order, parse_selector
from distributor.rollouts.allowed import check_allowed, coming_with
from distributor.rollouts.assignments import read_assignment, write_assignment
from distributor.rollouts.before import before, entry_of
from distributor.rollouts.leaving import thrown_out
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
    RowKey,
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
    versions_assigned,
)
from distributor.rollouts.together import (
    all_or_none,
    because_of,
    by_device,
    has_arrived,
    refused,
    resolve_together,
)
from edge_sdk.base import Digest, ModelName, NotFoundError, RefusedError, UsageError, Version
from edge_sdk.manifest import AssignedModel, Assignment

GROUP_MAX = 16  # models: each is loaded twice on a device while all of them wait to switch


def choose_devices(connection: Connection, cohort: Cohort) -> list[DeviceRecord]:
    """The devices of a cohort, by name; none that was thrown out, which would never be done.

    Raises: NotFoundError (a name is no device, or nothing matches), UsageError, FormatError,
    RefusedError (a name is that of a device that was thrown out).
    """
    out = thrown_out(connection)
    known = {one.device: one for one in list_devices(connection) if one.device not in out}
    barred = sorted(set(cohort.devices) & set(out))
    if barred:
        raise RefusedError(f"{barred[0]} is {out[barred[0]]}, so nothing can be brought to it")
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


def create(connection: Connection, request: RolloutRequest, *, at_ms: int, by: str) -> Rollout:
    """A new rollout in state ``building``: who is in, who is out, and why.

    Raises: NotFoundError (no such version, no such device), UsageError, FormatError,
    RefusedError (no publisher signed it, or devices would refuse it as too old).
    """
    variants = variants_wanted(connection, request)
    records = choose_devices(connection, request.cohort)
    rows = tuple(
        row for one in records for row in _begin(connection, one, variants, request, at_ms)
    )
    _check_allowed(connection, rows)
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
            together=tuple((model, str(version)) for model, version in request.together),
        ),
        by=by,
    )


def variants_wanted(
    connection: Connection, request: RolloutRequest
) -> dict[ModelName, list[ArtifactFacts]]:
    """The variants of each model that a rollout is to bring.

    Raises: NotFoundError, UsageError (a model is named twice, or there are too many).
    """
    wanted = request.wanted
    if len(wanted) > GROUP_MAX:
        raise UsageError(f"a rollout brings at most {GROUP_MAX} models together")
    if len(wanted) != 1 + len(request.together):
        raise UsageError("a rollout brings a model in one version: name each model once")
    return {
        model: [one.facts() for one in variants_of(connection, model, version)]
        for model, version in wanted.items()
    }


def _begin(
    connection: Connection,
    record: DeviceRecord,
    variants: Mapping[ModelName, Sequence[ArtifactFacts]],
    request: RolloutRequest,
    at_ms: int,
) -> list[RolloutDevice]:
    """One device's rows, of which each is about one model."""
    rows = []
    for chosen in resolve_together(connection, record, variants):
        row = RolloutDevice(
            device=record.device,
            model=chosen.model,
            artifact=None if chosen.variant is None else chosen.variant.artifact,
            version=str(request.wanted[chosen.model]),
            variant="" if chosen.variant is None else chosen.variant.variant,
            state=BUILDING,
            changed_ms=at_ms,
            previous=before(connection, record, chosen.model),
        )
        if chosen.variant is None:
            row = refused(row, chosen)
        elif not request.together and _is_there(record, chosen.variant):
            # Of a group it is assigned anew with the others: until then it may be changed.
            row = replace(row, state=COMMITTED, message="it runs this already")
        rows.append(row)
    return rows


def _is_there(record: DeviceRecord, chosen: ArtifactFacts) -> bool:
    entry = entry_of(record, chosen.model)
    assigned = entry is not None and entry.artifact == chosen.artifact
    return assigned and has_arrived(record, [chosen.model])


def _check_allowed(connection: Connection, rows: Iterable[RolloutDevice]) -> None:
    rows = list(rows)
    for model in sorted({row.model for row in rows}):
        check_allowed(connection, model, coming_with(row for row in rows if row.model == model))


def assign_built(
    connection: Connection,
    rollout: str,
    built: Mapping[RowKey, RolloutDevice],
    *,
    at_ms: int,
) -> Touched:
    """Assigns the devices whose deltas are built, all at once, and starts the rollout.

    ``built`` has rows after building: still ``building`` where there is a way, with its bytes,
    or final with a reason where there is none. A device is assigned all of its rows by one new
    assignment, or none of them. Nothing happens to a rollout that was aborted meanwhile.
    """
    one = get_rollout(connection, rollout)
    if one.state != BUILDING:
        return Touched()
    touched = Touched(rollouts=frozenset([rollout]))
    for waiting in by_device(one.devices):
        # Who was thrown out meanwhile stays out.
        rows = all_or_none([row if row.final else built.get(row.key, row) for row in waiting])
        for row in rows:
            if row.final:
                save_device(connection, rollout, row)
        touched |= _assign(connection, one, [row for row in rows if not row.final], at_ms)
    set_state(connection, rollout, RUNNING)
    finish_if_done(connection, touched.rollouts)
    return touched


def _assign(
    connection: Connection, rollout: Rollout, rows: Sequence[RolloutDevice], at_ms: int
) -> Touched:
    """``rows``: of one device, as many as are to be assigned."""
    if not rows or _is_late(connection, rollout, rows):
        return Touched()
    device = rows[0].device
    record = get_device(connection, device)
    previous = {row.model: before(connection, record, row.model) for row in rows}
    touched = _supersede(connection, rollout, device, previous.keys(), at_ms)
    wanted = {row.model: _wanted(connection, rollout, row) for row in rows}
    after, woken = _change(connection, record, wanted, at_ms)
    for row in rows:
        entry = wanted[row.model]
        save_device(
            connection,
            rollout.rollout,
            replace(
                row,
                state=ASSIGNED,
                attempt=0 if entry is None else entry.attempt,
                counter=max(after.counter, 1),
                previous=previous[row.model],
                changed_ms=at_ms,
            ),
        )
    return touched | woken


def _is_late(connection: Connection, rollout: Rollout, rows: Sequence[RolloutDevice]) -> bool:
    """Whether a later rollout of one of the models came first to this device. Then it gets
    none of them, and its rows say so."""
    number = number_of(connection, rollout.rollout)
    first = next(
        (row for row in rows if newest_assigned(connection, row.device, row.model) > number), None
    )
    if first is None:
        return False
    for row in rows:
        message = "a later rollout came first"
        if row.model != first.model:
            message = because_of(first.model, first.version, message)
        save_device(
            connection, rollout.rollout, replace(row, state=SUPERSEDED, reason="", message=message)
        )
    return True


def _change(
    connection: Connection,
    record: DeviceRecord,
    wanted: Mapping[ModelName, AssignedModel | None],
    at_ms: int,
) -> tuple[Assignment, Touched]:
    """The device's newest assignment, once it says what is wanted; and whom to wake."""
    assignment = read_assignment(record)
    there = {one.model for one in assignment.models}
    missing = [model for model, one in wanted.items() if one is not None and model not in there]
    highest = {model: seen for model in missing if (seen := _highest(connection, record, model))}
    after = change(assignment, wanted, has_arrived=partial(has_arrived, record), highest=highest)
    if after is assignment:
        return assignment, Touched()
    written = write_assignment(connection, after, at_ms=at_ms)
    return written, Touched(devices=frozenset([record.device]))


def _highest(connection: Connection, record: DeviceRecord, model: ModelName) -> Version | None:
    """Of all that came to the device, or that it says it runs: one that did not hear that the
    model was taken away goes down from there. Whoever orders a lower version means that."""
    said = record.model(model)
    found = versions_assigned(connection, record.device, model)
    if said is not None and said.active_version is not None:
        found.append(said.active_version)
    return max(found, default=None)


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


def _supersede(
    connection: Connection,
    rollout: Rollout,
    device: str,
    models: Collection[ModelName],
    at_ms: int,
) -> Touched:
    """Ends what earlier rollouts of the models still had under way on this device.

    The caller looks once for all devices whether those rollouts are over now: looking here
    read every row of them for each device (1,000 devices: 30 s instead of 6).
    """
    touched = set()
    for other, row in open_rows(connection, device):
        if row.model in models and other != rollout.rollout:
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
    Of a group a device has committed when it has all of it. Aborting twice is once.
    Raises: NotFoundError, RefusedError (it is done already).
    """
    one = get_rollout(connection, rollout)
    if one.state == DONE:
        raise RefusedError(
            f"rollout {rollout} is done; to go back use: edge-fleet rollout undo {rollout}"
        )
    if one.state == ABORTED:
        return Touched()
    touched = Touched(rollouts=frozenset([rollout]))
    for rows in by_device(one.devices):
        ours = [row for row in rows if row.state not in (REFUSED, SUPERSEDED)]
        if any(row.state != COMMITTED for row in ours):
            touched |= _recall(connection, one, ours, at_ms)
    set_state(connection, rollout, ABORTED, f"aborted by {by}")
    return touched


def _recall(
    connection: Connection, rollout: Rollout, rows: Sequence[RolloutDevice], at_ms: int
) -> Touched:
    """``rows``: of one device. One that has committed goes back with the rest of its group."""
    for row in rows:
        if not row.final or row.state == COMMITTED:
            save_device(connection, rollout.rollout, _recalled(row, at_ms))
    return _take_back(connection, rollout, [row for row in rows if row.counter], at_ms)


def _recalled(row: RolloutDevice, at_ms: int) -> RolloutDevice:
    back = "nothing" if row.previous is None else f"{row.previous.version} {row.previous.variant}"
    message = f"goes back to {back}" if row.counter else "was not assigned yet"
    return replace(row, state=RECALLED, reason="", message=message, changed_ms=at_ms)


def _take_back(
    connection: Connection, rollout: Rollout, rows: Sequence[RolloutDevice], at_ms: int
) -> Touched:
    """Assigns what the device had before, unless something else was assigned since."""
    if not rows:
        return Touched()
    record = get_device(connection, rows[0].device)
    back = {row.model: row.previous for row in rows if _is_ours(record, rollout, row)}
    return _change(connection, record, back, at_ms)[1]


def _is_ours(record: DeviceRecord, rollout: Rollout, row: RolloutDevice) -> bool:
    """Whether what the device is assigned of the model is by this rollout."""
    entry = entry_of(record, row.model)
    return row.artifact is None or (entry is not None and entry.rollout == rollout.rollout)


def undo(connection: Connection, rollout: str, *, at_ms: int, by: str) -> Rollout:
    """A new rollout, in state ``building``, that takes the devices of this one back to what
    they were assigned before it.

    Left alone are devices that it never reached or that a later rollout took over, be it with
    one model of a group: the others would go back without it.
    Raises: NotFoundError, RefusedError (it is still building, there is nothing to undo, or what
    they would go back to is not signed any more).
    """
    one = get_rollout(connection, rollout)
    if one.state == BUILDING:
        raise RefusedError(
            f"rollout {rollout} is still building; use: edge-fleet rollout abort {rollout}"
        )
    rows: list[RolloutDevice] = []
    out = thrown_out(connection)
    for own in by_device(one.devices):
        record = get_device(connection, own[0].device)
        if record.device in out:
            _take_back(connection, one, [row for row in own if row.counter], at_ms)
        elif all(_can_go_back(record, one, row) for row in own):
            rows += [_back(row, at_ms) for row in own]
    if not rows:
        raise RefusedError(
            f"no device runs what rollout {rollout} assigned any more; there is nothing to undo"
        )
    _check_allowed(connection, rows)
    version, *others = [_only_version(rows, model) for model in one.models]
    return insert_rollout(
        connection,
        Rollout(
            rollout="",
            model=one.model,
            version=version,
            cohort=Cohort(devices=tuple(dict.fromkeys(row.device for row in rows))),
            state=BUILDING,
            created_ms=at_ms,
            undoes=rollout,
            devices=tuple(rows),
            together=tuple(zip(one.models[1:], others, strict=True)),
        ),
        by=by,
    )


def _can_go_back(record: DeviceRecord, rollout: Rollout, row: RolloutDevice) -> bool:
    entry = entry_of(record, row.model)
    if entry is None:
        return row.artifact is None and row.counter > 0  # it was taken away, and still is
    return entry.rollout == rollout.rollout


def _only_version(rows: Iterable[RolloutDevice], model: ModelName) -> str:
    """The version that all rows of a model have; "" where they differ."""
    versions = {row.version for row in rows if row.model == model}
    return versions.pop() if len(versions) == 1 else ""


def _back(row: RolloutDevice, at_ms: int) -> RolloutDevice:
    back = row.previous
    artifact: Digest | None = None if back is None else back.artifact
    version: Version | None = None if back is None else back.version
    return RolloutDevice(
        device=row.device,
        model=row.model,
        artifact=artifact,
        version="" if version is None else str(version),
        variant="" if back is None else back.variant,
        state=BUILDING,
        changed_ms=at_ms,
        message="" if back is not None else "the model is taken away: it had none before",
    )
