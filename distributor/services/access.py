"""What the call that is being answered may do: asked by every service before it acts.

The interceptor finds the caller's roles and refuses what no role of theirs allows anywhere.
A service that knows the namespace asks ``permitted``: only its answer makes an audit entry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from distributor.audit import Act
from distributor.errors import UnauthenticatedError
from distributor.operators import (
    ADMIN,
    EVERYWHERE,
    LASTING,
    RULES,
    VIEWER,
    Grant,
    bearer_of,
    decide,
    find_operator,
)
from distributor.storage import Database
from edge_sdk.base import Digest, ForbiddenError, NotFoundError, TrustError

TOKEN = "token"  # noqa: S105 - what stands in the audit log before a token's public name
_EVERYTHING = (Grant(role=ADMIN, namespace=EVERYWHERE),)


class Named(Protocol):
    """Who calls, as the interceptor found it."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """The operator whom a token stands for."""

    name: str
    kind: str = "operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """One call: whose, of which method, with which roles, proved by what."""

    caller: Named
    method: str  # "edge.fleet.v1.FleetService/Publish"
    grants: tuple[Grant, ...]
    via: str
    request: Any = None  # the message; none: a stream
    until_ms: int | None = None  # when what proves it ends, where that is a token
    since: int = 0  # changes of the standing before the grants were read

    @property
    def by_token(self) -> bool:
        """Proved by a pipeline's token, which ends soon."""
        return self.via.startswith(TOKEN)

    def check_lasting(self, what: str) -> None:
        """Before a call gives somebody ``what``. Raises: ForbiddenError (by a token)."""
        if self.by_token:
            raise ForbiddenError(f"{what} {LASTING}", method=self.method)

    def permit(self, namespace: str | None) -> Permit:
        """Raises: ForbiddenError."""
        decision = decide(
            self.method,
            kind=self.caller.kind,
            grants=self.grants,
            namespace=namespace,
            by_token=self.by_token,
        )
        if not decision.allowed:
            raise ForbiddenError(decision.why, method=self.method)
        return Permit(rights=self, role=decision.role)

    def sees(self, namespace: str) -> bool:
        return any(one.gives(VIEWER, namespace) for one in self.grants)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """That this call may do what it asks for, and by which role."""

    rights: Rights
    role: str

    @property
    def by(self) -> str:
        """The caller's name."""
        return self.rights.caller.name

    def act(
        self,
        action: str,
        thing: str,
        facts: Mapping[str, str] | None = None,
        *,
        at_ms: int,
        request: Digest | None = None,
    ) -> Act:
        """The audit entry of what is done by this permit; ``facts`` are never secret."""
        if request is None and self.rights.request is not None:
            request = Digest.of(self.rights.request.SerializeToString(deterministic=True))
        return Act(
            at_ms=at_ms,
            kind=self.rights.caller.kind,
            actor=self.by,
            role=self.role,
            via=self.rights.via,
            action=action,
            object=thing,
            request=request,
            facts=facts or {},
        )


_RIGHTS: ContextVar[Rights] = ContextVar("rights")


def enter(rights: Rights) -> None:
    """For the interceptor: from here on this is the call."""
    _RIGHTS.set(rights)


def rights() -> Rights:
    """Those of the call that is being answered."""
    return _RIGHTS.get()


def permitted(namespace: str | None = None) -> Permit:
    """That the call may go on, about ``namespace`` (none: the method is about no single one).

    Raises: ForbiddenError.
    """
    call = _RIGHTS.get()
    if namespace is None and RULES[call.method].scope == "namespace":
        # Would let somebody act in one namespace by a role in another.
        raise AssertionError(f"{call.method} does not say which namespace it is about")
    return call.permit(namespace)


def visible(namespace: str) -> bool:
    """Whether the caller may see what belongs to ``namespace``."""
    return _RIGHTS.get().sees(namespace)


class Access:
    """Finds what a caller may do. ``open_to_all``: names prove nothing here (the test switch
    for plaintext), so every operator may do everything."""

    def __init__(
        self, database: Database, *, clock_ms: Callable[[], int], open_to_all: bool = False
    ) -> None:
        self._database = database
        self._clock_ms = clock_ms
        self._open_to_all = open_to_all

    async def rights(self, caller: Named, method: str) -> Rights:
        """Raises: ForbiddenError (not in any namespace), TrustError (no operator of ours)."""
        grants: tuple[Grant, ...] = ()
        via = "plaintext" if self._open_to_all else "certificate"
        if caller.kind == "operator":
            grants = _EVERYTHING if self._open_to_all else await self._grants(caller.name)
        found = Rights(caller=caller, method=method.lstrip("/"), grants=grants, via=via)
        found.permit(None)
        return found

    async def bearer(self, secret: str, method: str) -> Rights:
        """Those of a pipeline that shows a short-lived token.

        Raises: ForbiddenError, TrustError (no token, or none of ours, or its time is over).
        """
        if not secret:
            raise UnauthenticatedError("calls here need a token: edge-fleet operators token")
        try:
            found = await self._database.read(bearer_of, secret, at_ms=self._clock_ms())
        except TrustError as error:
            raise UnauthenticatedError(error.message) from None
        rights = Rights(
            caller=Bearer(name=found.operator),
            method=method.lstrip("/"),
            grants=found.grants,
            via=f"{TOKEN} {found.token}",
            until_ms=found.expires_ms,
        )
        rights.permit(None)
        return rights

    async def _grants(self, name: str) -> tuple[Grant, ...]:
        try:
            return (await self._database.read(find_operator, name)).grants
        except NotFoundError:
            raise TrustError(
                f"{name} is no operator here (any more); an admin can say: "
                f"edge-fleet operators add {name} --role viewer"
            ) from None
