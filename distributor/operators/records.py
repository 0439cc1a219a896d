"""The rows of operators and of what they may do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from distributor.operators.roles import ADMIN, EVERYWHERE, Grant
from distributor.storage.tables_operators import operator_grants, operator_tokens, operators
from edge_sdk.base import ConflictError, NotFoundError, RefusedError, check_segment

_ADMIN = Grant(role=ADMIN, namespace=EVERYWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Somebody who may call the distributor, and as what."""

    name: str
    grants: tuple[Grant, ...]
    added_ms: int
    added_by: str


def add_operator(
    connection: Connection, name: str, grants: Iterable[Grant], *, at_ms: int, by: str
) -> Operator:
    """Raises: ConflictError (there already), FormatError (no name)."""
    check_segment(name, "operator")
    if _found(connection, name):
        raise ConflictError(
            f"operator {name} is there already; change what they may do with: "
            f"edge-fleet operators roles {name}"
        )
    connection.execute(insert(operators).values(operator=name, added_ms=at_ms, added_by=by[:63]))
    _write_grants(connection, name, grants)
    return find_operator(connection, name)


def set_grants(connection: Connection, name: str, grants: Iterable[Grant]) -> Operator:
    """Replaces all roles of an operator.

    Raises: NotFoundError, RefusedError (nobody would be admin of everything any more).
    """
    find_operator(connection, name)
    connection.execute(delete(operator_grants).where(operator_grants.c.operator == name))
    _write_grants(connection, name, grants)
    _somebody_left(connection)
    return find_operator(connection, name)


def remove_operator(connection: Connection, name: str) -> Operator:
    """Removes an operator with tokens and roles; certificates of that name are worth nothing then.

    Raises: NotFoundError, RefusedError (nobody would be admin of everything any more).
    """
    gone = find_operator(connection, name)
    for table in (operator_tokens, operator_grants, operators):
        connection.execute(delete(table).where(table.c.operator == name))
    _somebody_left(connection)
    return gone


def find_operator(connection: Connection, name: str) -> Operator:
    """Raises: NotFoundError."""
    if not (found := _found(connection, name)):
        raise NotFoundError(f"no operator {name!r} is known here; see: edge-fleet operators list")
    return found[0]


def list_operators(connection: Connection) -> list[Operator]:
    """All operators, by name."""
    return _found(connection, None)


def _found(connection: Connection, name: str | None) -> list[Operator]:
    people, roles = select(operators), select(operator_grants)
    if name is not None:
        people = people.where(operators.c.operator == name)
        roles = roles.where(operator_grants.c.operator == name)
    grants: dict[str, list[Grant]] = defaultdict(list)
    for row in connection.execute(roles):
        grants[row.operator].append(Grant(role=row.role, namespace=row.namespace))
    return [
        Operator(
            name=row.operator,
            grants=tuple(sorted(grants[row.operator])),
            added_ms=row.added_ms,
            added_by=row.added_by,
        )
        for row in connection.execute(people.order_by(operators.c.operator))
    ]


def _write_grants(connection: Connection, name: str, grants: Iterable[Grant]) -> None:
    rows = [
        {"operator": name, "namespace": one.namespace, "role": one.role}
        for one in sorted(set(grants))
    ]
    if rows:
        connection.execute(insert(operator_grants), rows)


def _somebody_left(connection: Connection) -> None:
    """A fleet that nobody may administer could only be helped on the distributor's machine."""
    if not any(_ADMIN in one.grants for one in list_operators(connection)):
        raise RefusedError("nobody would be admin any more; make somebody else admin first")
