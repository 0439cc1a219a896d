"""Who is refused, or loses a role, while a call of theirs is being let in does not get in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from distributor.errors import UnauthenticatedError
from distributor.identity import issue_client, make_authority
from distributor.operators import Grant
from distributor.services import Standing
from distributor.services.access import Access, Bearer, Rights
from distributor.services.interceptor import Door
from edge_sdk.identity import (
    CertificateFacts,
    make_key,
    make_request,
    read_certificate,
    read_request,
)
from edge_sdk.rpc import AUTHORIZATION

CHANGES: dict[str, Callable[[Standing, CertificateFacts], None]] = {
    "stolen": lambda standing, held: standing.refuse(held.key, "stolen"),
    "taken away": lambda standing, _: standing.end_of("bob", "roles were taken away"),
}
PUBLISHER = (Grant.parse("publisher@team"),)


class RefusedCallError(Exception):
    """What gRPC raises in our place, with the words that the caller gets."""


class Context:
    """A call by ``certificate``, or by a token."""

    def __init__(self, certificate: bytes) -> None:
        self._auth = {"ssl_tls_version": [b"TLSv1.3"], "x509_pem_cert": [certificate]}

    def auth_context(self) -> Any:
        return self._auth

    def invocation_metadata(self) -> Any:
        return ((AUTHORIZATION, "Bearer secret"),)

    async def abort_with_status(self, status: Any) -> None:
        raise RefusedCallError(status.details)


class SlowAccess:
    """Knows bob's roles, and lets ``meanwhile`` happen once they are read."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile

    async def rights(self, caller: Any, method: str, until_ms: int | None = None) -> Rights:
        self._meanwhile()
        return Rights(caller=caller, method=method, grants=PUBLISHER, via="test", until_ms=until_ms)

    async def bearer(self, secret: str, method: str) -> Rights:
        return await self.rights(Bearer(name="bob"), method, int(time.time() * 1000) + 60_000)


@pytest.fixture(scope="module")
def certificate() -> bytes:
    asked = read_request(make_request(make_key(), "operator", "bob"))
    return issue_client(make_authority(), asked, now_s=time.time(), life_s=3600)


async def unary(request: Any, context: Any) -> str:
    return "answered"


async def stream(request: Any, context: Any) -> AsyncIterator[str]:
    yield "answered"


HANDLERS = {
    "unary": grpc.unary_unary_rpc_method_handler(unary),
    "publish": grpc.stream_unary_rpc_method_handler(unary),
    "watch": grpc.unary_stream_rpc_method_handler(stream),
}


def called(handler: Any, door: Door, certificate: bytes) -> str:
    async def act() -> str:
        async def found(_: grpc.HandlerCallDetails) -> Any:
            return handler

        details = cast(grpc.HandlerCallDetails, SimpleNamespace(method="/a.Service/Method"))
        wrapped = await door.intercept_service(found, details)
        context = Context(certificate)
        if handler.response_streaming:
            return " ".join([one async for one in wrapped.unary_stream(None, context)])
        behaviour = wrapped.stream_unary if handler.request_streaming else wrapped.unary_unary
        return str(await behaviour(None, context))

    return asyncio.run(act())


@pytest.mark.parametrize("handler", HANDLERS)
@pytest.mark.parametrize(
    ("kind", "change"),
    [("operator", "stolen"), ("operator", "taken away"), ("token", "taken away")],
)
def test_a_change_while_the_roles_are_read(
    kind: Any, change: str, handler: str, certificate: bytes
) -> None:
    """It found no stream that it could end, so the call itself is refused; the next call is
    judged by what is then."""
    standing, held = Standing(), read_certificate(certificate)
    changes = [lambda: CHANGES[change](standing, held)]
    access = SlowAccess(lambda: changes.pop()() if changes else None)
    door = Door(kind, cast(Access, access), standing)
    with pytest.raises(RefusedCallError, match=change):
        called(HANDLERS[handler], door, certificate)
    if change == "stolen":
        with pytest.raises(RefusedCallError, match="stolen"):
            called(HANDLERS[handler], door, certificate)
    else:
        assert called(HANDLERS[handler], door, certificate) == "answered"


@pytest.mark.parametrize("kind", ["operator", "token"])
def test_an_open_stream_knows_what_it_was_let_in_with(kind: Any, certificate: bytes) -> None:
    """So that what another process takes away is compared with that, at the first look."""
    standing = Standing()

    async def grants(request: Any, context: Any) -> AsyncIterator[str]:
        for one in standing.of_operators()["bob"]:
            yield str(*one.grants)

    door = Door(kind, cast(Access, SlowAccess(lambda: None)), standing)
    handler = grpc.unary_stream_rpc_method_handler(grants)
    assert called(handler, door, certificate) == "publisher@team"


def test_a_stream_of_who_is_refused_by_now(certificate: bytes) -> None:
    """Whatever was asked before it opened: it does not open."""

    async def act(change: str) -> None:
        standing, held = Standing(), read_certificate(certificate)
        since = standing.changes
        CHANGES[change](standing, held)
        with (
            pytest.raises(UnauthenticatedError, match=change),
            standing.following(held.key, 60, operator="bob", since=since),
        ):
            raise AssertionError("it opened")
        assert not standing.of_operators()

    for change in CHANGES:
        asyncio.run(act(change))
