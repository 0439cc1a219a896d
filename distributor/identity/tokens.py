"""Enrolment tokens: made, bound to the keys that use them, listed, revoked."""

from __future__ import annotations

import secrets
from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from distributor.identity.model import TokenRecord
from distributor.storage.tables_identity import token_keys, tokens
from edge_sdk.base import NotFoundError, RefusedError, TrustError, UsageError
from edge_sdk.identity import Kind, RequestFacts, secret_hash, token_name

USES_MAX = 100_000
VALID_S_MAX = 10 * 365 * 86_400.0


def create_token(
    connection: Connection,
    *,
    kind: Kind,
    name: str,
    uses: int,
    approval: bool,
    expires_ms: int,
    created_by: str,
    at_ms: int,
) -> tuple[str, TokenRecord]:
    """The secret (hexadecimal), which is kept nowhere here, and what is known of the token."""
    if not 1 <= uses <= USES_MAX:
        raise UsageError(f"a token is for 1 to {USES_MAX} keys, not {uses}")
    if name and uses != 1:
        raise UsageError("a token for one name is for one key")
    secret = secrets.token_bytes(32)
    hashed = secret_hash(secret)
    connection.execute(
        insert(tokens).values(
            secret_hash=hashed,
            token=token_name(hashed),
            kind=kind,
            name=name,
            uses=uses,
            approval=approval,
            expires_ms=expires_ms,
            created_ms=at_ms,
            created_by=created_by,
            revoked=False,
        )
    )
    return secret.hex(), get_token(connection, token_name(hashed))


def get_token(connection: Connection, token: str) -> TokenRecord:
    """Raises: NotFoundError."""
    found = [one for one in list_tokens(connection) if one.token == token]
    if not found:
        raise NotFoundError(f"there is no token {token!r}")
    return found[0]


def list_tokens(connection: Connection) -> list[TokenRecord]:
    """Newest first."""
    used: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(select(token_keys).order_by(token_keys.c.used_ms)):
        used[row.secret_hash].append(row.name)
    rows = connection.execute(select(tokens).order_by(tokens.c.created_ms.desc(), tokens.c.token))
    return [_record(row, used[row.secret_hash]) for row in rows]


def revoke_token(connection: Connection, token: str) -> TokenRecord:
    """It enrols nobody any more. Raises: NotFoundError."""
    connection.execute(update(tokens).where(tokens.c.token == token).values(revoked=True))
    return get_token(connection, token)


def use_token(
    connection: Connection, hashed: str, request: RequestFacts, *, at_ms: int
) -> TokenRecord:
    """Binds a use of the token to the key of ``request``, or finds that it was bound before.

    So an enrolment whose answer was lost can be repeated, and nobody else can take its place.
    Raises: TrustError (unknown, revoked, used by other keys), RefusedError (expired).
    """
    row = connection.execute(select(tokens).where(tokens.c.secret_hash == hashed)).one_or_none()
    if row is None or row.revoked:
        raise TrustError("this token is not known here, or was revoked")
    if row.kind != request.kind or row.name not in ("", request.name):
        raise TrustError(f"this token is not for the {request.kind} {request.name}")
    uses = list(connection.execute(select(token_keys).where(token_keys.c.secret_hash == hashed)))
    bound = next((one for one in uses if one.key == request.key), None)
    if bound is not None:
        if bound.name != request.name:
            raise TrustError(f"this key enrolled as {bound.name} before, not as {request.name}")
        return _record(row, [one.name for one in uses])
    if at_ms >= row.expires_ms:
        raise RefusedError("this token has expired; ask for a new one")
    if len(uses) >= row.uses:
        raise TrustError(
            "this token was used up by other keys; make a new one, or one with more --uses"
        )
    connection.execute(
        insert(token_keys).values(
            secret_hash=hashed, key=request.key, name=request.name, used_ms=at_ms
        )
    )
    return _record(row, [*(one.name for one in uses), request.name])


def _record(row: Row[Any], used_by: list[str]) -> TokenRecord:
    return TokenRecord(
        token=row.token,
        kind=row.kind,
        name=row.name,
        uses=row.uses,
        used_by=tuple(used_by),
        approval=row.approval,
        expires_ms=row.expires_ms,
        created_ms=row.created_ms,
        created_by=row.created_by,
        revoked=row.revoked,
    )
