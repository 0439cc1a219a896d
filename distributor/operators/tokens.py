"""Short-lived tokens for pipelines: a secret for minutes, kept here as its SHA-256 only."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from distributor.operators.records import find_operator
from distributor.operators.roles import Grant, within
from distributor.storage.tables_operators import operator_tokens
from edge_sdk.base import Digest, RefusedError, TrustError, UsageError

LIFE_S_MAX = 24 * 3600
_SECRET_BYTES = 32
_PREFIX = "edgeop1."  # so that scanners of repositories find one that leaked


@dataclass(frozen=True, slots=True, kw_only=True)
class Minted:
    """A new token. ``secret`` is shown once and kept nowhere."""

    secret: str
    token: str  # what may be said of it: the beginning of its digest
    operator: str
    grants: tuple[Grant, ...]
    expires_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBearer:
    """Whom a token stands for, and what it allows: never more than its operator may now."""

    operator: str
    grants: tuple[Grant, ...]
    token: str
    expires_ms: int


def mint(
    connection: Connection,
    operator: str,
    grants: Sequence[Grant],
    *,
    life_s: float,
    purpose: str,
    at_ms: int,
) -> Minted:
    """A token for ``operator`` with at most ``grants``; none: with all that the operator may.

    Raises: RefusedError (more than the operator may), UsageError (too long), NotFoundError.
    """
    owner = find_operator(connection, operator)
    wanted = tuple(sorted(set(grants))) or owner.grants
    if not 0 < life_s <= LIFE_S_MAX:
        raise UsageError(f"a token lives for up to {LIFE_S_MAX // 3600} hours, not {life_s:g} s")
    if not within(wanted, owner.grants):
        has = ", ".join(map(str, owner.grants)) or "no role"
        raise RefusedError(f"a token allows no more than its operator may: {operator} has {has}")
    if len(purpose) > 128:
        raise UsageError("the purpose of a token is a few words, at most 128 characters")
    secret = _PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    digest = Digest.of(secret.encode())
    expires_ms = at_ms + int(life_s * 1000)
    connection.execute(delete(operator_tokens).where(operator_tokens.c.expires_ms <= at_ms))
    connection.execute(
        insert(operator_tokens).values(
            digest=str(digest),
            operator=operator,
            grants=[str(one) for one in wanted],
            purpose=purpose,
            made_ms=at_ms,
            expires_ms=expires_ms,
        )
    )
    return Minted(
        secret=secret,
        token=str(digest)[:12],
        operator=operator,
        grants=wanted,
        expires_ms=expires_ms,
    )


def bearer_of(connection: Connection, secret: str, *, at_ms: int) -> TokenBearer:
    """Whom a presented token stands for. Raises: TrustError (unknown, or its time is over)."""
    digest = str(Digest.of(secret.encode()))  # looked up by digest: no comparison to time
    row = connection.execute(
        select(operator_tokens).where(operator_tokens.c.digest == digest)
    ).first()
    if row is None or row.expires_ms <= at_ms:
        raise TrustError(
            "the token is unknown or its time is over; another is made by: "
            "edge-fleet operators token"
        )
    owner = find_operator(connection, row.operator)
    asked = tuple(Grant.parse(one) for one in row.grants)
    # The operator may have lost roles since it was minted.
    grants = tuple(one for one in asked if within([one], owner.grants))
    return TokenBearer(
        operator=row.operator, grants=grants, token=digest[:12], expires_ms=row.expires_ms
    )


def forget_tokens(connection: Connection, operator: str) -> None:
    """None that was made for ``operator`` counts any more."""
    connection.execute(delete(operator_tokens).where(operator_tokens.c.operator == operator))
