"""Roles, and where somebody has them. Pure: values in, a decision out.

A role is had in one namespace or in all (``*``). Publisher and deployer are strangers: who
signs what exists does not decide what runs. Each includes viewer, admin includes all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_sdk.base.errors import UsageError
from edge_sdk.base.names import check_segment

VIEWER, PUBLISHER, DEPLOYER, ADMIN = "viewer", "publisher", "deployer", "admin"
ROLES = (VIEWER, PUBLISHER, DEPLOYER, ADMIN)
EVERYWHERE = "*"
INCLUDED: Mapping[str, frozenset[str]] = {
    VIEWER: frozenset({VIEWER}),
    PUBLISHER: frozenset({VIEWER, PUBLISHER}),
    DEPLOYER: frozenset({VIEWER, DEPLOYER}),
    ADMIN: frozenset(ROLES),
}


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Grant:
    """A role in a namespace, or everywhere. As text: ``publisher@team``, ``admin``."""

    role: str
    namespace: str = EVERYWHERE

    @classmethod
    def parse(cls, text: str) -> Grant:
        """Raises: UsageError (no such role), FormatError (no such form of namespace)."""
        role, at, namespace = text.partition("@")
        if role not in ROLES:
            raise UsageError(f"{role!r} is no role: {', '.join(ROLES)}, alone or as role@namespace")
        if not at or namespace == EVERYWHERE:
            return cls(role=role)
        return cls(role=role, namespace=check_segment(namespace, "namespace"))

    def __str__(self) -> str:
        return self.role if self.namespace == EVERYWHERE else f"{self.role}@{self.namespace}"

    def gives(self, role: str, namespace: str | None) -> bool:
        """Whether it includes ``role`` there (``*``: everywhere); none: in some namespace."""
        covers = namespace is None or self.namespace in (EVERYWHERE, namespace)
        return covers and role in INCLUDED[self.role]


def within(grants: Iterable[Grant], limits: Iterable[Grant]) -> bool:
    """Whether nothing in ``grants`` goes beyond ``limits``."""
    held = tuple(limits)
    return all(any(limit.gives(one.role, one.namespace) for limit in held) for one in grants)
