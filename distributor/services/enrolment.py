"""EnrolmentService and RenewalService: how certificates are come by and kept."""

# ruff: noqa: N802 - the methods' names are those of the .proto
from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from sqlalchemy import Connection

from distributor import identity, operators
from distributor.audit import Act, append
from distributor.identity import IdentityRecord, Issuer, PendingMax, State, Vouched
from distributor.operators import ADMIN, EVERYWHERE, Grant
from distributor.services.interceptor import caller
from distributor.services.standing import Standing
from distributor.storage import Database
from edge_sdk.base import RefusedError, TrustError, explain_os_error
from edge_sdk.identity import (
    CertificateFacts,
    RequestFacts,
    read_certificate,
    read_request,
    secret_hash,
)
from edge_sdk.protos import identity_v1_pb2 as wire
from edge_sdk.protos import identity_v1_pb2_grpc as stubs

FIRST = "edge-distributor"  # who makes the token of the first operator
_SAME_PART = 0.01  # of a certificate's life: one that ends so little later is the same, renewed
_RETRY_S = 15.0  # of who waits for an operator
_LOG = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Root = Callable[[bytes], Awaitable[bytes]]  # of a digest; b"": the newest
Clock = Callable[[], float]


class Enrolment(stubs.EnrolmentServiceServicer):
    """For whoever has no certificate, or only an expired one.

    ``root`` answers with the bytes of the TUF root of a digest. ``factory``: a PEM file of
    manufacturers' authorities. ``grace_s``: how long after its end a certificate is still
    renewed. ``pending_max``: how many may wait for an operator.
    """

    def __init__(
        self,
        database: Database,
        issuer: Issuer,
        standing: Standing,
        *,
        root: Root,
        grace_s: float,
        factory: Path | None = None,
        pending_max: PendingMax | None = None,
        clock: Clock = time.time,
    ) -> None:
        self._database = database
        self._issuer = issuer
        self._standing = standing
        self._root = root
        self._grace_s = grace_s
        self._factory = factory
        self._pending_max = pending_max or PendingMax()
        self._clock = clock

    async def Trust(self, request: wire.TrustRequest, context: Context) -> wire.TrustResponse:
        """What a newcomer compares with its token."""
        shown = await asyncio.to_thread(lambda: self._issuer.authorities.shown)
        return wire.TrustResponse(authorities=shown, root=await self._root(request.root))

    async def Enrol(self, request: wire.EnrolRequest, context: Context) -> wire.EnrolResponse:
        """A first certificate, or the word that an operator has to approve."""
        asked = read_request(request.request)
        now_s = self._clock()
        vouched = await asyncio.to_thread(self._vouched, request, now_s)
        certificate, replaced = await self._database.write(
            _enrol, self._issuer, asked, vouched, now_s=now_s, pending_max=self._pending_max
        )
        for key, reason in replaced.items():
            self._standing.refuse(key, reason)
        if certificate is None:
            _LOG.info("the %s %s waits for approval", asked.kind, asked.name)
            return wire.EnrolResponse(retry_after_s=_RETRY_S)
        _LOG.info("the %s %s is enrolled", asked.kind, asked.name)
        return _answer(self._issuer, certificate)

    async def RenewExpired(
        self, request: wire.RenewExpiredRequest, context: Context
    ) -> wire.EnrolResponse:
        """For a device that was off: the request's own signature proves that it has the key."""
        asked = read_request(request.request)
        held = read_certificate(request.certificate)
        now_s = self._clock()
        if not await asyncio.to_thread(self._issuer.authorities.issued, request.certificate):
            raise TrustError("this certificate was not made here")
        check_grace(held, now_s, self._grace_s)
        renew = partial(_renew, via="expired certificate")
        certificate = await self._database.write(renew, self._issuer, held, asked, now_s=now_s)
        return _answer(self._issuer, certificate)

    def _vouched(self, request: wire.EnrolRequest, now_s: float) -> Vouched:
        """Raises: TrustError, RefusedError."""
        if request.secret:
            return Vouched(secret_hash=secret_hash(request.secret))
        if self._factory is None:
            raise RefusedError("this fleet takes no factory certificates: enrol with a token")
        try:
            authorities = self._factory.read_bytes()
        except OSError as error:
            raise explain_os_error(error, self._factory) from error
        serial = identity.check_factory(
            tuple(request.factory_chain),
            request.request,
            request.factory_proof,
            authorities=authorities,
            now_s=now_s,
        )
        return Vouched(factory_serial=serial)


class Renewal(stubs.RenewalServiceServicer):
    """For whoever has a certificate that is still good."""

    def __init__(self, database: Database, issuer: Issuer, *, clock: Clock = time.time) -> None:
        self._database = database
        self._issuer = issuer
        self._clock = clock

    async def Renew(self, request: wire.RenewRequest, context: Context) -> wire.EnrolResponse:
        """The next certificate for the same name and key."""
        held = caller().certificate
        if held is None:
            raise RefusedError("who has no certificate has none to renew")
        asked = read_request(request.request)
        now_s = self._clock()
        certificate = await self._database.write(_renew, self._issuer, held, asked, now_s=now_s)
        return _answer(self._issuer, certificate)


def check_grace(held: CertificateFacts, now_s: float, grace_s: float) -> None:
    """Raises: RefusedError."""
    if now_s >= held.not_after_s + grace_s:
        days = (now_s - held.not_after_s) / 86_400
        raise RefusedError(
            f"the certificate of {held.name} expired {days:.0f} days ago, which is too long: "
            "enrol again with a token for this name"
        )


def _enrol(
    connection: Connection,
    issuer: Issuer,
    asked: RequestFacts,
    vouched: Vouched,
    *,
    now_s: float,
    pending_max: PendingMax,
) -> tuple[bytes | None, dict[str, str]]:
    """The certificate, None where an operator has to approve, and keys refused from now on."""
    before = identity.find_identity(connection, asked.kind, asked.name)
    at_ms = int(now_s * 1000)
    record = identity.admit(connection, asked, vouched, at_ms=at_ms, pending_max=pending_max)
    if before is None or (before.state, before.key) != (record.state, record.key):
        append(connection, _act(asked, record, at_ms=at_ms))
    replaced = {}
    if before is not None and before.key not in ("", asked.key):
        replaced[before.key] = "enrolled again with another key"
    if record.state is not State.ACTIVE:
        return None, replaced
    if asked.kind == "operator" and not operators.list_operators(connection):
        # Whoever comes first has the token that this machine made: nobody else could make one.
        _make_admin(connection, asked.name, at_ms=at_ms)
    certificate = issuer.issue(asked, now_s=now_s)
    identity.note_issued(connection, read_certificate(certificate))
    return certificate, replaced


def _act(asked: RequestFacts, record: IdentityRecord, *, at_ms: int) -> Act:
    """Of the audit log; not of a retry, which changes nothing."""
    return Act(
        at_ms=at_ms,
        kind=asked.kind,
        actor=asked.name,
        via="enrolment",
        action=f"{asked.kind}.enrol",
        object=asked.name,
        facts={"how": record.how[:200], "key": asked.key[:200], "state": str(record.state)},
    )


def _make_admin(connection: Connection, name: str, *, at_ms: int) -> None:
    grant = Grant(role=ADMIN, namespace=EVERYWHERE)
    operators.add_operator(connection, name, [grant], at_ms=at_ms, by=FIRST)
    facts = {"roles": str(grant)}
    act = Act(
        at_ms=at_ms, kind="host", actor=FIRST, action="operator.add", object=name, facts=facts
    )
    append(connection, act)


def _renew(
    connection: Connection,
    issuer: Issuer,
    held: CertificateFacts,
    asked: RequestFacts,
    *,
    now_s: float,
    via: str = "certificate",
) -> bytes:
    at_ms = int(now_s * 1000)
    identity.check_renewal(connection, held, asked, at_ms=at_ms)
    noted = identity.get_identity(connection, asked.kind, asked.name)
    certificate = issuer.issue(asked, now_s=now_s)
    made = read_certificate(certificate)
    # Who asks again and again gets nearly the same one: neither log nor catalog grow by that.
    longer_ms = abs(int(made.not_after_s * 1000) - noted.not_after_ms)
    if (
        longer_ms >= _SAME_PART * 1000 * (made.not_after_s - made.not_before_s)
        or made.authority != noted.authority
    ):
        identity.note_issued(connection, made)
        append(connection, _renewed(made, at_ms=at_ms, via=via))
    return certificate


def _renewed(made: CertificateFacts, *, at_ms: int, via: str) -> Act:
    facts = {"key": made.key, "authority": made.authority, "serial": made.serial}
    facts["not_after_ms"] = str(int(made.not_after_s * 1000))
    return Act(
        at_ms=at_ms,
        kind=made.kind,
        actor=made.name,
        via=via,
        action=f"{made.kind}.renew",
        object=made.name,
        facts=facts,
    )


def _answer(issuer: Issuer, certificate: bytes) -> wire.EnrolResponse:
    return wire.EnrolResponse(certificate=certificate, authorities=issuer.authorities.trusted)
