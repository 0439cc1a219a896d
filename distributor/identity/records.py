"""The rows of who is enrolled: coming in, renewing, being refused."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from distributor.identity.model import (
    IdentityRecord,
    Mark,
    PendingMax,
    RefusedKey,
    State,
    Vouched,
)
from distributor.identity.tokens import use_token
from distributor.storage.tables_identity import identities, refused_keys
from edge_sdk.base import ConflictError, NotFoundError, RefusedError, TrustError
from edge_sdk.identity import CertificateFacts, Kind, RequestFacts

_PENDING_MAX = PendingMax()
_GONE = (State.REVOKED, State.CLONED)


def admit(
    connection: Connection,
    request: RequestFacts,
    vouched: Vouched,
    *,
    at_ms: int,
    pending_max: PendingMax = _PENDING_MAX,
) -> IdentityRecord:
    """Writes down who asks to come in: ACTIVE afterwards where a certificate may be made,
    PENDING where an operator has to approve first. Repeating it changes nothing.

    Raises: TrustError, RefusedError (too many wait, too), ConflictError (the name is another
    key's).
    """
    _check_key(connection, request.key)
    named, waits = False, True
    how = f"factory {vouched.factory_serial}"
    if vouched.secret_hash:
        token = use_token(connection, vouched.secret_hash, request, at_ms=at_ms)
        named, waits, how = bool(token.name), token.approval, f"token {token.token}"
    record = find_identity(connection, request.kind, request.name)
    if record is not None and (record.key not in ("", request.key) or record.state in _GONE):
        _take_over(connection, record, named=named, at_ms=at_ms)
        record = None
    expected = record is not None and record.state is State.APPROVED
    if (
        record is not None
        and expected
        and record.factory_serial not in ("", vouched.factory_serial)
    ):
        raise TrustError(f"{request.name} is awaited with another factory serial number")
    if record is not None and record.state is State.ACTIVE:
        return record
    state = State.PENDING if waits and not expected else State.ACTIVE
    serial = vouched.factory_serial
    if state is State.PENDING:
        serial = _waits_by(connection, record, vouched, pending_max)
    _write(
        connection,
        request.kind,
        request.name,
        state=state,
        reason="",
        how=how,
        key=request.key,
        factory_serial=serial,
        changed_ms=at_ms,
        mark="",
    )
    return get_identity(connection, request.kind, request.name)


def _waits_by(
    connection: Connection,
    record: IdentityRecord | None,
    vouched: Vouched,
    most: PendingMax,
) -> str:
    """The factory certificate that this wait counts for, from its beginning to its end: a
    second certificate would otherwise free the first for another name.

    Raises: TrustError, RefusedError.
    """
    already = "" if record is None else record.factory_serial
    if already and vouched.factory_serial not in ("", already):
        assert record is not None
        raise TrustError(
            f"{record.name} waits already by another factory certificate: an operator approves or "
            "revokes that first",
            factory_serial=vouched.factory_serial,
        )
    if record is None or vouched.factory_serial != already == "":
        _check_pending(connection, vouched, most)
    return already or vouched.factory_serial


def _check_pending(connection: Connection, vouched: Vouched, most: PendingMax) -> None:
    """Whoever has one factory certificate could otherwise fill the catalog with names.

    Raises: RefusedError.
    """
    pending = identities.c.state == State.PENDING
    if vouched.factory_serial:
        own = identities.c.factory_serial == vouched.factory_serial
        found = select(identities.c.name).where(pending, own).order_by(identities.c.name)
        names = list(connection.execute(found).scalars())
        if len(names) >= most.of_one_factory_certificate:
            raise RefusedError(
                f"the factory certificate {vouched.factory_serial} waits already as "
                f"{', '.join(names)}: an operator approves or revokes that first",
                factory_serial=vouched.factory_serial,
            )
    count = connection.execute(select(func.count()).where(pending)).scalar_one()
    if count >= most.in_all:
        raise RefusedError(
            f"{count} wait for approval already, and no more may: an operator has to approve or "
            "revoke some first: edge-fleet devices pending"
        )


def note_issued(connection: Connection, facts: CertificateFacts) -> None:
    """Which certificate was made last for somebody."""
    _write(
        connection,
        facts.kind,
        facts.name,
        authority=facts.authority,
        not_after_ms=int(facts.not_after_s * 1000),
    )


def check_renewal(
    connection: Connection, held: CertificateFacts, request: RequestFacts, *, at_ms: int
) -> None:
    """That who holds ``held`` may have the certificate that ``request`` asks for.

    Raises: TrustError.
    """
    _check_key(connection, held.key)
    if (held.kind, held.name, held.key) != (request.kind, request.name, request.key):
        raise TrustError("a renewal is for the name and the key of the certificate held")
    record = find_identity(connection, held.kind, held.name)
    if record is None:  # the catalog was put back to an earlier one; the authority was not
        _write(
            connection,
            held.kind,
            held.name,
            state=State.ACTIVE,
            how="known by its certificate",
            key=held.key,
            changed_ms=at_ms,
        )
    elif record.state is not State.ACTIVE or record.key != held.key:
        raise TrustError(f"the {held.kind} {held.name} is {record.state}", state=str(record.state))


def note_check_in(
    connection: Connection, facts: CertificateFacts, mark: Mark | None, *, at_ms: int
) -> str:
    """Follows the chain of a device's check-ins; why it is refused from now on, or "".

    Each check-in brings a fresh mark and the one before. A copy of the key that goes its own
    way breaks the chain: then both are refused, since nothing says which is the device.
    """
    row = connection.execute(_row(facts.kind, facts.name)).one_or_none()
    last = "" if row is None else row.mark
    said = mark or Mark(previous="", current="")
    if last and last not in (said.previous, said.current):
        reason = "its key is used in two places"
        cloned = State.CLONED
        refuse(connection, facts.kind, facts.name, cloned, reason, key=facts.key, at_ms=at_ms)
        return reason
    if row is None:
        _write(
            connection,
            facts.kind,
            facts.name,
            state=State.ACTIVE,
            how="known by its certificate",
            key=facts.key,
            changed_ms=at_ms,
        )
    elif row.key != facts.key:  # an outside authority gave it another
        _write(connection, facts.kind, facts.name, key=facts.key)
    if said.current != last:
        _write(connection, facts.kind, facts.name, mark=said.current)
    return ""


def approve(
    connection: Connection, kind: Kind, name: str, *, factory_serial: str, at_ms: int
) -> IdentityRecord:
    """Lets in whoever waits under the name, or says that it may come.

    Raises: ConflictError (active), RefusedError (revoked or cloned: that takes a new token),
    TrustError (another factory serial number waits).
    """
    record = find_identity(connection, kind, name)
    if record is not None and record.state in _GONE:
        raise RefusedError(
            f"the {kind} {name} is {record.state}; to let it in again, make a token for it: "
            f"edge-fleet devices token create --name {name}"
        )
    if record is not None and record.state is State.ACTIVE:
        return record
    serial = factory_serial or (record.factory_serial if record is not None else "")
    if record is not None and record.key and record.factory_serial not in ("", serial):
        raise TrustError(
            f"who waits as {name} has the factory serial number {record.factory_serial!r}"
        )
    waiting = record is not None and record.key != ""
    _write(
        connection,
        kind,
        name,
        state=State.ACTIVE if waiting else State.APPROVED,
        factory_serial=serial,
        changed_ms=at_ms,
    )
    return get_identity(connection, kind, name)


def revoke(
    connection: Connection, kind: Kind, name: str, reason: str, *, at_ms: int
) -> IdentityRecord:
    """Nobody is believed any more who has the key of ``name``. Raises: NotFoundError."""
    get_identity(connection, kind, name)
    refuse(connection, kind, name, State.REVOKED, reason or "revoked", at_ms=at_ms)
    return get_identity(connection, kind, name)


def refuse(
    connection: Connection,
    kind: Kind,
    name: str,
    state: State,
    reason: str,
    *,
    key: str = "",
    at_ms: int,
) -> None:
    """Refuses the key that ``name`` has, and ``key``, for ever."""
    record = get_identity(connection, kind, name)
    _write(connection, kind, name, state=state, reason=reason, changed_ms=at_ms)
    for one in {record.key, key}:
        _refuse_key(connection, record, one, reason, at_ms=at_ms)


def refused(connection: Connection) -> list[RefusedKey]:
    """Every key that is refused, and why."""
    rows = connection.execute(select(refused_keys).order_by(refused_keys.c.key))
    return [
        RefusedKey(key=row.key, kind=row.kind, name=row.name, reason=row.reason) for row in rows
    ]


def count_refused(connection: Connection) -> int:
    """How many keys are refused: none ever stops to be."""
    return connection.execute(select(func.count()).select_from(refused_keys)).scalar_one()


def find_identity(connection: Connection, kind: Kind, name: str) -> IdentityRecord | None:
    row = connection.execute(_row(kind, name)).one_or_none()
    return None if row is None else _record(row)


def get_identity(connection: Connection, kind: Kind, name: str) -> IdentityRecord:
    """Raises: NotFoundError."""
    found = find_identity(connection, kind, name)
    if found is None:
        raise NotFoundError(f"no {kind} {name!r} is enrolled here")
    return found


def list_identities(
    connection: Connection, *, kind: str = "", state: str = ""
) -> list[IdentityRecord]:
    """By kind and name; those of one kind or state where it is given."""
    query = select(identities).order_by(identities.c.kind, identities.c.name)
    if kind:
        query = query.where(identities.c.kind == kind)
    if state:
        query = query.where(identities.c.state == state)
    return [_record(row) for row in connection.execute(query)]


def _take_over(connection: Connection, record: IdentityRecord, *, named: bool, at_ms: int) -> None:
    """Another key asks for a name that is taken: only a token for this very name allows it.

    Raises: ConflictError.
    """
    if not named:
        raise ConflictError(
            f"the {record.kind} {record.name} is enrolled with another key; to replace it, make "
            f"a token for it: edge-fleet devices token create --name {record.name}",
            state=str(record.state),
        )
    again = "enrolled again with another key"
    _refuse_key(connection, record, record.key, again, at_ms=at_ms)
    connection.execute(
        delete(identities).where(identities.c.kind == record.kind, identities.c.name == record.name)
    )


def _refuse_key(
    connection: Connection, record: IdentityRecord, key: str, reason: str, *, at_ms: int
) -> None:
    known = select(refused_keys).where(refused_keys.c.key == key)
    if not key or connection.execute(known).one_or_none() is not None:
        return
    connection.execute(
        insert(refused_keys).values(
            key=key, kind=record.kind, name=record.name, reason=reason, refused_ms=at_ms
        )
    )


def _check_key(connection: Connection, key: str) -> None:
    row = connection.execute(select(refused_keys).where(refused_keys.c.key == key)).one_or_none()
    if row is not None:
        raise TrustError(f"this key is refused: {row.reason}")


def _write(connection: Connection, kind: Kind, name: str, **values: Any) -> None:
    where = (identities.c.kind == kind, identities.c.name == name)
    if connection.execute(update(identities).where(*where).values(**values)).rowcount:
        return
    empty: dict[str, Any] = {
        **dict.fromkeys(("reason", "how", "key", "authority", "factory_serial", "mark"), ""),
        "not_after_ms": 0,
        "changed_ms": 0,
    }
    connection.execute(insert(identities).values(kind=kind, name=name, **{**empty, **values}))


def _row(kind: Kind, name: str) -> Any:
    return select(identities).where(identities.c.kind == kind, identities.c.name == name)


def _record(row: Row[Any]) -> IdentityRecord:
    return IdentityRecord(
        kind=row.kind,
        name=row.name,
        state=State(row.state),
        reason=row.reason,
        how=row.how,
        key=row.key,
        authority=row.authority,
        factory_serial=row.factory_serial,
        not_after_ms=row.not_after_ms,
        changed_ms=row.changed_ms,
    )
