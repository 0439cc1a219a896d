"""Acts become entries: appended under a lock, so that the chain has one end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, insert, select, update

from distributor.storage.tables_operators import audit_entries, audit_log
from edge_sdk.audit import Entry, encode_entry
from edge_sdk.base import Digest

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What an entry says, before it has a number. See ``edge_sdk.audit.Entry``."""

    at_ms: int
    kind: str
    actor: str
    action: str
    object: str
    role: str = ""
    via: str = ""
    request: Digest | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """The end of the log. ``origin``: the log's name; ``head``: digest of the last entry."""

    origin: str
    size: int
    head: Digest


def append(connection: Connection, act: Act) -> int:
    """Adds one entry; its number. It appears and is lost with the caller's transaction."""
    # The row is locked until the transaction ends: two replicas that append at once would
    # otherwise both follow the same entry. SQLite has one writer anyway.
    end = _state(connection, lock=True)
    entry = Entry(
        number=end.size + 1,
        at_ms=act.at_ms,
        kind=act.kind,
        actor=act.actor,
        role=act.role,
        via=act.via,
        action=act.action,
        object=act.object,
        request="" if act.request is None else str(act.request),
        facts=dict(act.facts),
        previous=str(end.head),
    )
    document = encode_entry(entry)
    connection.execute(insert(audit_entries).values(number=entry.number, document=document))
    connection.execute(
        update(audit_log)
        .where(audit_log.c.origin == end.origin)
        .values(size=entry.number, head=str(Digest.of(document)))
    )
    return entry.number


def recorded(
    work: Callable[Concatenate[Connection, P], T], act: Act | Callable[[T], Act | None]
) -> Callable[Concatenate[Connection, P], T]:
    """``work`` with its entry, to be given to ``Database.write``.

    act: the entry, or what makes it of the result; none where nothing was changed.
    """

    def with_entry(connection: Connection, /, *arguments: P.args, **named: P.kwargs) -> T:
        result = work(connection, *arguments, **named)
        made = act if isinstance(act, Act) else act(result)
        if made is not None:
            append(connection, made)
        return result

    return with_entry


def log_state(connection: Connection) -> LogState:
    """The end of the log as it is now."""
    return _state(connection, lock=False)


def _state(connection: Connection, *, lock: bool) -> LogState:
    query: Any = select(audit_log)
    row = connection.execute(query.with_for_update() if lock else query).one()
    return LogState(origin=row.origin, size=row.size, head=Digest.parse(row.head))


def entries(connection: Connection, *, after: int, until: int, limit: int) -> list[bytes]:
    """The documents of entries ``after + 1`` to ``until``, at most ``limit`` of them."""
    rows = connection.execute(
        select(audit_entries.c.document)
        .where(audit_entries.c.number > after, audit_entries.c.number <= until)
        .order_by(audit_entries.c.number)
        .limit(limit)
    )
    return [bytes(row.document) for row in rows]
