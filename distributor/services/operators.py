"""OperatorService and AuditService: who may operate the fleet, and the log of what they did."""

# ruff: noqa: N802 - the methods' names are those of the .proto
from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import grpc
from sqlalchemy import Connection

from distributor import audit, identity, operators
from distributor.audit import HeadSigner, recorded
from distributor.operators import ADMIN, EVERYWHERE, Grant, Minted, Operator
from distributor.services.access import permitted, rights
from distributor.services.driver import now_ms
from distributor.services.identities import Addresses, check_admin_left
from distributor.services.standing import Standing
from distributor.services.wire import clean, number
from distributor.storage import Database
from edge_sdk.base import ForbiddenError, RefusedError, check_segment
from edge_sdk.protos import operators_v1_pb2 as wire
from edge_sdk.protos import operators_v1_pb2_grpc as wire_grpc

_PAGE = 200
_REMOVED = "this operator was removed"
_EARLIER_MAX = 100
_ROLES_MAX = 64


class Operators(wire_grpc.OperatorServiceServicer):
    """Operators, their roles, and tokens for pipelines."""

    def __init__(self, database: Database, standing: Standing, addresses: Addresses) -> None:
        self._database = database
        self._standing = standing
        self._addresses = addresses

    async def WhoAmI(
        self, request: wire.WhoAmIRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.Operator:
        call = rights()
        return wire.Operator(
            operator=call.caller.name, roles=[str(one) for one in call.grants], via=call.via
        )

    async def ListOperators(
        self, request: wire.ListOperatorsRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.ListOperatorsResponse:
        found = await self._database.read(operators.list_operators)
        return wire.ListOperatorsResponse(operators=[_message(one) for one in found])

    async def AddOperator(
        self, request: wire.AddOperatorRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.Operator:
        permit, at_ms, grants = permitted(), now_ms(), _grants(request.roles)
        name = check_segment(request.operator, "operator")
        act = permit.act("operator.add", name, _facts(grants), at_ms=at_ms)
        add = recorded(operators.add_operator, act)
        return _message(await self._database.write(add, name, grants, at_ms=at_ms, by=permit.by))

    async def SetRoles(
        self, request: wire.SetRolesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.Operator:
        grants = _grants(request.roles)
        name = check_segment(request.operator, "operator")
        act = permitted().act("operator.roles", name, _facts(grants), at_ms=now_ms())
        changed, lost = await self._database.write(recorded(_change, act), name, grants)
        if lost:
            self._standing.end_of(name, "roles of this operator were taken away")
        return _message(changed)

    async def RemoveOperator(
        self, request: wire.RemoveOperatorRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.Operator:
        name = check_segment(request.operator, "operator")
        at_ms = now_ms()
        act = permitted().act("operator.remove", name, at_ms=at_ms)
        gone, key = await self._database.write(
            recorded(_remove, act), name, at_ms=at_ms, by_token=rights().by_token
        )
        if key:
            self._standing.refuse(key, _REMOVED)
        self._standing.end_of(name, _REMOVED)
        return _message(gone)

    async def MintToken(
        self, request: wire.MintTokenRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.MintTokenResponse:
        call, permit, at_ms = rights(), permitted(), now_ms()
        name = check_segment(request.operator or call.caller.name, "operator")
        purpose = clean(request.purpose)
        if name != call.caller.name and not any(
            one.gives(ADMIN, EVERYWHERE) for one in call.grants
        ):
            raise ForbiddenError(f"only an admin makes tokens for others; you are {permit.by}")

        def act(made: Minted) -> audit.Act:
            facts = _facts(made.grants) | {"token": made.token, "purpose": purpose}
            facts["expires_ms"] = str(made.expires_ms)
            return permit.act("token.mint", name, facts, at_ms=at_ms)

        made = await self._database.write(
            recorded(operators.mint, act),
            name,
            _grants(request.roles),
            life_s=request.life_s,
            purpose=purpose,
            at_ms=at_ms,
        )
        return wire.MintTokenResponse(
            secret=made.secret,
            token=made.token,
            roles=[str(one) for one in made.grants],
            expires_ms=made.expires_ms,
            address=self._addresses.token,
        )


class Audit(wire_grpc.AuditServiceServicer):
    """The audit log, to be read and verified; nothing here changes it."""

    def __init__(self, database: Database, signer: HeadSigner) -> None:
        self._database = database
        self._signer = signer

    async def ListEntries(
        self, request: wire.ListEntriesRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[wire.Entries]:
        end = await self._database.read(audit.log_state)
        until = number(request.until, "entry") or end.size
        after = number(request.after, "entry")
        while page := await self._database.read(
            audit.entries, after=after, until=until, limit=_PAGE
        ):
            after += len(page)
            yield wire.Entries(documents=page)

    async def SignedHead(
        self, request: wire.SignedHeadRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> wire.SignedHeadResponse:
        note = await self._signer.sign()
        kept = await self._database.read(audit.signed_notes, limit=_EARLIER_MAX)
        return wire.SignedHeadResponse(
            note=note,
            key=str(await self._signer.key()),
            earlier=[one for one in kept if one != note],
        )


def _change(connection: Connection, name: str, grants: Sequence[Grant]) -> tuple[Operator, bool]:
    """The operator with other roles, and whether something is not allowed any more."""
    before = operators.find_operator(connection, name).grants
    changed = operators.set_grants(connection, name, grants)
    lost = not operators.within(before, changed.grants)
    if lost:
        check_admin_left(connection, by_token=False)
    return changed, lost


def _remove(
    connection: Connection, name: str, *, at_ms: int, by_token: bool
) -> tuple[Operator, str]:
    """The operator, and the key that is refused from now on: whoever is given the name later
    must not be somebody who had it before."""
    gone = operators.remove_operator(connection, name)
    if Grant(role=ADMIN, namespace=EVERYWHERE) in gone.grants:
        check_admin_left(connection, by_token=by_token)
    if identity.find_identity(connection, "operator", name) is None:
        return gone, ""
    return gone, identity.revoke(connection, "operator", name, _REMOVED, at_ms=at_ms).key


def _grants(roles: Iterable[str]) -> list[Grant]:
    """Raises: UsageError, FormatError, RefusedError (too many)."""
    grants = [Grant.parse(one) for one in roles]
    if len(grants) > _ROLES_MAX:
        raise RefusedError(f"{len(grants)} roles for one operator: at most {_ROLES_MAX}")
    return grants


def _facts(grants: Iterable[Grant]) -> dict[str, str]:
    return {"roles": " ".join(str(one) for one in sorted(grants))[:512]}


def _message(one: Operator) -> wire.Operator:
    return wire.Operator(
        operator=one.name,
        roles=[str(each) for each in one.grants],
        added_ms=one.added_ms,
        added_by=one.added_by,
    )
