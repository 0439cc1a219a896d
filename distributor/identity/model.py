"""Who is enrolled, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from distributor.config import FACTORY_PENDING_MAX, PENDING_MAX
from edge_sdk.identity import Kind


class State(StrEnum):
    """Of somebody's enrolment."""

    PENDING = "pending"  # has asked; an operator decides
    APPROVED = "approved"  # may come, and has not yet
    ACTIVE = "active"
    REVOKED = "revoked"
    CLONED = "cloned"  # its key is used in two places; neither is believed


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRecord:
    """Times are milliseconds since 1970. ``key`` is empty until it has come."""

    kind: Kind
    name: str
    state: State
    reason: str
    how: str
    key: str
    authority: str
    factory_serial: str
    not_after_ms: int
    changed_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """A token without its secret."""

    token: str
    kind: Kind
    name: str
    uses: int
    used_by: tuple[str, ...]
    approval: bool
    expires_ms: int
    created_ms: int
    created_by: str
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedKey:
    """A key that nobody is believed with, whose it was, and why."""

    key: str
    kind: Kind
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """By what a newcomer is known: a token's secret (hashed), or a factory serial number."""

    secret_hash: str = ""
    factory_serial: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingMax:
    """How many may wait for an operator: in all, and by one factory certificate."""

    in_all: int = PENDING_MAX
    of_one_factory_certificate: int = FACTORY_PENDING_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a device says of its check-ins: the mark of this one, and of the last one that was
    answered. 32 bytes in hexadecimal; empty: none."""

    previous: str
    current: str
