"""Who may speak to the distributor, as its operators see and decide it."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.fleet.connection import Connection
from edge_sdk.identity import Kind
from edge_sdk.protos import identity_v1_pb2 as wire
from edge_sdk.protos import identity_v1_pb2_grpc as stubs


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An enrolment token without its secret. Times are milliseconds since 1970."""

    token: str
    kind: str
    name: str  # "": for any new one
    uses: int
    used_by: tuple[str, ...]
    approval: bool
    expires_ms: int
    created_ms: int
    created_by: str
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A device or operator that is enrolled, or asks to be."""

    kind: str
    name: str
    state: str  # pending, approved, active, revoked, cloned
    reason: str
    how: str
    key: str
    authority: str
    not_after_ms: int
    changed_ms: int
    factory_serial: str


class Identities:
    """Methods raise the typed errors of ``edge_sdk.base``."""

    def __init__(self, connection: Connection, *, deadline_s: float) -> None:
        self._connection = connection
        self._stub = stubs.IdentityServiceStub(connection.channel)
        self._deadline_s = deadline_s

    def create_token(
        self,
        *,
        kind: Kind = "device",
        name: str = "",
        uses: int = 1,
        valid_s: float = 86_400.0,
        approval: bool = False,
    ) -> tuple[str, Token]:
        """The text, which is a secret and is shown only now, and what is known of it."""
        request = wire.CreateTokenRequest(
            kind=kind, name=name, uses=uses, valid_s=valid_s, approval=approval
        )
        answer = self._connection.once(
            lambda: self._stub.CreateToken(request, timeout=self._deadline_s)
        )
        return answer.text, _token(answer.token)

    def factory_token(self) -> str:
        """No secret: what devices with a factory certificate need to find this fleet and to know
        it. They wait for an operator unless they are awaited."""
        request = wire.CreateTokenRequest(kind="device", factory=True)
        answer = self._connection.repeat(
            lambda: self._stub.CreateToken(request, timeout=self._deadline_s)
        )
        return answer.text

    def tokens(self) -> tuple[Token, ...]:
        """Newest first."""
        answer = self._connection.repeat(
            lambda: self._stub.ListTokens(wire.ListTokensRequest(), timeout=self._deadline_s)
        )
        return tuple(_token(one) for one in answer.tokens)

    def revoke_token(self, token: str) -> Token:
        """It enrols nobody any more; whom it enrolled stays. Raises: NotFoundError."""
        request = wire.RevokeTokenRequest(token=token)
        return _token(
            self._connection.repeat(
                lambda: self._stub.RevokeToken(request, timeout=self._deadline_s)
            )
        )

    def identities(self, *, kind: Kind | None = None, state: str = "") -> tuple[Enrolled, ...]:
        request = wire.ListIdentitiesRequest(kind=kind or "", state=state)
        answer = self._connection.repeat(
            lambda: self._stub.ListIdentities(request, timeout=self._deadline_s)
        )
        return tuple(_enrolled(one) for one in answer.identities)

    def approve(self, name: str, *, kind: Kind = "device", factory_serial: str = "") -> Enrolled:
        """Lets in who waits under the name; or says beforehand that it may come.

        Raises: RefusedError (revoked or cloned: that takes a token), TrustError (one with
        another factory serial number waits).
        """
        request = wire.ApproveRequest(kind=kind, name=name, factory_serial=factory_serial)
        return _enrolled(
            self._connection.repeat(lambda: self._stub.Approve(request, timeout=self._deadline_s))
        )

    def revoke(self, name: str, *, kind: Kind = "device", reason: str = "") -> Enrolled:
        """Nobody with its key is believed any more. Raises: NotFoundError."""
        request = wire.RevokeRequest(kind=kind, name=name, reason=reason)
        return _enrolled(
            self._connection.repeat(lambda: self._stub.Revoke(request, timeout=self._deadline_s))
        )


def _token(one: wire.Token) -> Token:
    return Token(
        token=one.token,
        kind=one.kind,
        name=one.name,
        uses=one.uses,
        used_by=tuple(one.used_by),
        approval=one.approval,
        expires_ms=one.expires_ms,
        created_ms=one.created_ms,
        created_by=one.created_by,
        revoked=one.revoked,
    )


def _enrolled(one: wire.Identity) -> Enrolled:
    return Enrolled(
        kind=one.kind,
        name=one.name,
        state=one.state,
        reason=one.reason,
        how=one.how,
        key=one.key,
        authority=one.authority,
        not_after_ms=one.not_after_ms,
        changed_ms=one.changed_ms,
        factory_serial=one.factory_serial,
    )
