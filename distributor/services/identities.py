"""IdentityService: what operators do about tokens and about who is enrolled."""

# ruff: noqa: N802 - the methods' names are those of the .proto
from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from sqlalchemy import Connection

from distributor import identity, operators, rollouts
from distributor.audit import Act, recorded
from distributor.identity import IdentityRecord, Issuer, State, TokenRecord
from distributor.identity.tokens import VALID_S_MAX
from distributor.operators import ADMIN, EVERYWHERE, Operator
from distributor.rollouts import Touched
from distributor.services.access import permitted, rights
from distributor.services.enrolment import Clock, Root
from distributor.services.standing import Standing
from distributor.services.wakeups import Wakeups
from distributor.services.wire import clean
from distributor.storage import Database
from edge_sdk.base import RefusedError, UsageError, check_segment
from edge_sdk.identity import EnrolmentToken, Kind
from edge_sdk.protos import identity_v1_pb2 as wire
from edge_sdk.protos import identity_v1_pb2_grpc as stubs

_VALID_S = 86_400.0
_BY_TOKEN_S_MAX = 86_400.0  # what a pipeline makes for devices ends soon after it

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(kw_only=True)
class Addresses:
    """Where this distributor is reached from outside, once its listeners are bound."""

    enrolment: str = ""
    device: str = ""
    operator: str = ""
    token: str = ""  # of pipelines; "": they have no listener


class TokenMaker:
    """Makes whole tokens: a secret in the catalog, and what leads to this distributor."""

    def __init__(
        self,
        database: Database,
        issuer: Issuer,
        addresses: Addresses,
        *,
        root: Root,
        clock: Clock = time.time,
    ) -> None:
        self._database = database
        self._issuer = issuer
        self._addresses = addresses
        self._root = root
        self._clock = clock

    async def make(
        self,
        *,
        kind: Kind,
        name: str,
        uses: int,
        valid_s: float,
        approval: bool,
        created_by: str,
        act: Callable[[tuple[str, TokenRecord]], Act] | None = None,
    ) -> tuple[str, TokenRecord]:
        """The text, which is kept nowhere, and what is known of it. ``act``: of the audit log.

        Raises: UsageError.
        """
        if not (math.isfinite(valid_s) and 1 <= valid_s <= VALID_S_MAX):
            raise UsageError(f"a token is good for 1 s to 10 years, not {valid_s:g} s")
        if name:
            check_segment(name, kind)
        expires_s = int(self._clock() + valid_s)
        secret, record = await self._database.write(
            identity.create_token if act is None else recorded(identity.create_token, act),
            kind=kind,
            name=name,
            uses=uses,
            approval=approval,
            expires_ms=expires_s * 1000,
            created_by=created_by,
            at_ms=int(self._clock() * 1000),
        )
        token = await self._token(kind, name, uses=uses, expires_s=expires_s, secret=secret)
        return token.encode(), record

    async def for_factory_certificates(self) -> str:
        """One without a secret: whom to call and how to know them, for any number of devices."""
        token = await self._token("device", "", uses=0, expires_s=0, secret="")
        return token.encode()

    async def _token(
        self, kind: Kind, name: str, *, uses: int, expires_s: int, secret: str
    ) -> EnrolmentToken:
        root = await self._root(b"")
        at = self._addresses
        return EnrolmentToken(
            enrolment_address=at.enrolment,
            address=at.device if kind == "device" else at.operator,
            kind=kind,
            name=name,
            authority=self._issuer.authorities.serving.fingerprint,
            root=hashlib.sha256(root).hexdigest() if root else "",
            uses=uses,
            expires_s=expires_s,
            secret=secret,
        )


class Identities(stubs.IdentityServiceServicer):
    """Tokens, approvals, revocations."""

    def __init__(
        self,
        database: Database,
        tokens: TokenMaker,
        standing: Standing,
        wakeups: Wakeups,
        *,
        clock: Clock = time.time,
    ) -> None:
        self._database = database
        self._tokens = tokens
        self._standing = standing
        self._wakeups = wakeups
        self._clock = clock

    async def CreateToken(
        self, request: wire.CreateTokenRequest, context: Context
    ) -> wire.CreateTokenResponse:
        """Its secret leaves in this answer and is kept nowhere."""
        permit, at_ms = permitted(), self._now_ms()
        if request.factory:
            if request.kind != "device" or request.name or request.uses or request.approval:
                raise UsageError("a token for factory certificates is for devices, and for any")
            return wire.CreateTokenResponse(text=await self._tokens.for_factory_certificates())

        valid_s = request.valid_s or _VALID_S
        if request.kind == "operator" or valid_s > _BY_TOKEN_S_MAX:
            rights().check_lasting("an operator's token, or one for more than a day,")

        def act(made: tuple[str, TokenRecord]) -> Act:
            facts = {"for": made[1].name, "uses": str(made[1].uses)}
            return permit.act(f"{made[1].kind}.token", made[1].token, facts, at_ms=at_ms)

        text, record = await self._tokens.make(
            act=act,
            kind=_kind(request.kind),
            name=request.name,
            uses=request.uses or 1,
            valid_s=valid_s,
            approval=request.approval,
            created_by=permit.by,
        )
        return wire.CreateTokenResponse(text=text, token=_token(record))

    async def ListTokens(
        self, request: wire.ListTokensRequest, context: Context
    ) -> wire.ListTokensResponse:
        found = await self._database.read(identity.list_tokens)
        return wire.ListTokensResponse(tokens=[_token(one) for one in found])

    async def RevokeToken(self, request: wire.RevokeTokenRequest, context: Context) -> wire.Token:
        act = permitted().act("token.revoke", request.token, at_ms=self._now_ms())
        revoke = recorded(identity.revoke_token, act)
        return _token(await self._database.write(revoke, request.token))

    async def ListIdentities(
        self, request: wire.ListIdentitiesRequest, context: Context
    ) -> wire.ListIdentitiesResponse:
        found = await self._database.read(
            identity.list_identities, kind=request.kind, state=request.state
        )
        return wire.ListIdentitiesResponse(identities=[_identity(one) for one in found])

    async def Approve(self, request: wire.ApproveRequest, context: Context) -> wire.Identity:
        kind, at_ms = _kind(request.kind), self._now_ms()
        if kind == "operator":
            rights().check_lasting("an operator's certificate")
        name = check_segment(request.name, kind)
        facts = {"factory_serial": request.factory_serial}
        act = permitted().act(f"{kind}.approve", name, facts, at_ms=at_ms)
        found = await self._database.write(
            recorded(identity.approve, act),
            kind,
            name,
            factory_serial=request.factory_serial,
            at_ms=at_ms,
        )
        return _identity(found)

    async def Revoke(self, request: wire.RevokeRequest, context: Context) -> wire.Identity:
        """Takes effect on the next call, and in streams that are open."""
        kind, at_ms = _kind(request.kind), self._now_ms()
        name = check_segment(request.name, kind)
        reason = clean(request.reason)
        act = permitted().act(f"{kind}.revoke", name, {"reason": reason[:200]}, at_ms=at_ms)
        revoke = recorded(_revoke, act)
        record, left = await self._database.write(
            revoke, kind, name, reason, at_ms=at_ms, by_token=rights().by_token
        )
        self._wakeups.wake(f"rollout {one}" for one in left.rollouts)
        if record.key:
            self._standing.refuse(record.key, record.reason)
        if kind == "operator":
            self._standing.end_of(name, f"this operator is refused: {record.reason}")
        return _identity(record)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def check_admin_left(connection: Connection, *, by_token: bool) -> None:
    """That somebody who is admin of everything by name can log in, too: the key is not refused.

    ``by_token``: a pipeline asks, which may not count on admins who never came here.
    Raises: RefusedError.
    """
    for one in operators.list_operators(connection):
        if not _is_admin(one):
            continue
        found = identity.find_identity(connection, "operator", one.name)
        # None: has not come yet, or has a certificate of an outside authority.
        if found.state is State.ACTIVE if found is not None else not by_token:
            return
    raise RefusedError(
        "no admin who can log in would be left; make somebody else admin first, who logs in: "
        "edge-fleet operators add NAME --role admin"
    )


def _is_admin(one: Operator) -> bool:
    return any(grant.gives(ADMIN, EVERYWHERE) for grant in one.grants)


def _revoke(
    connection: Connection, kind: Kind, name: str, reason: str, *, at_ms: int, by_token: bool
) -> tuple[IdentityRecord, Touched]:
    """Also what the key may have made: whoever stole it has tokens for pipelines by now. No
    rollout waits any longer for a device.

    Raises: NotFoundError, RefusedError (the last admin's key).
    """
    record = identity.revoke(connection, kind, name, reason, at_ms=at_ms)
    if kind == "operator":
        named = [one for one in operators.list_operators(connection) if one.name == name]
        if any(map(_is_admin, named)):
            check_admin_left(connection, by_token=by_token)
        operators.forget_tokens(connection, name)
        return record, Touched()
    return record, rollouts.leave(connection, name, record.reason, at_ms=at_ms)


def _kind(text: str) -> Kind:
    if text == "device":
        return "device"
    if text == "operator":
        return "operator"
    raise UsageError(f"{text!r} is neither device nor operator")


def _token(record: TokenRecord) -> wire.Token:
    return wire.Token(
        token=record.token,
        kind=record.kind,
        name=record.name,
        uses=record.uses,
        used_by=record.used_by,
        expires_ms=record.expires_ms,
        approval=record.approval,
        created_ms=record.created_ms,
        created_by=record.created_by,
        revoked=record.revoked,
    )


def _identity(record: IdentityRecord) -> wire.Identity:
    return wire.Identity(
        kind=record.kind,
        name=record.name,
        state=str(record.state),
        reason=record.reason,
        how=record.how,
        key=record.key,
        authority=record.authority,
        not_after_ms=record.not_after_ms,
        changed_ms=record.changed_ms,
        factory_serial=record.factory_serial,
    )
