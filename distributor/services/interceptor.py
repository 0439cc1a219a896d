"""The one place where a call gets its identity and its errors get their form.

The identity is the one name in the caller's certificate. Services ask ``caller()``; no message
carries identity. Under the switch for tests (``edge_sdk.rpc.plaintext``) it is what the caller
says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, aclosing
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal, NoReturn

import grpc
from grpc_status import rpc_status

from distributor.errors import UnauthenticatedError
from distributor.services.access import Access, Rights, enter, rights
from distributor.services.standing import OpenStream, Standing
from edge_sdk.base import EdgeError, FormatError, check_segment
from edge_sdk.identity import CertificateFacts, read_certificate
from edge_sdk.rpc import DEVICE_KEY, OPERATOR_KEY, bearer_token, to_status

_LOG = logging.getLogger(__name__)
_OPEN_TO_ALL = "/grpc."  # health and reflection
_TLS_VERSION = b"TLSv1.3"

Auth = Mapping[str, Any]  # of gRPC: what the handshake found out, by name
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a call, as far as the connection proves it. ``certificate`` is None where
    nothing was proved, which only tests do."""

    kind: Literal["device", "operator"]
    name: str
    certificate: CertificateFacts | None = None

    @property
    def key(self) -> str:
        """The SHA-256 of the public half; "": none was shown."""
        return "" if self.certificate is None else self.certificate.key

    @property
    def operator(self) -> str:
        """The name, where it is an operator's; else ""."""
        return self.name if self.kind == "operator" else ""


_CALLER: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes the call that is being answered."""
    return _CALLER.get()


def check_tls_version(auth: Auth) -> None:
    """gRPC cannot refuse an older version in the handshake. Raises: UnauthenticatedError."""
    if list(auth.get("ssl_tls_version", ())) != [_TLS_VERSION]:
        raise UnauthenticatedError("calls need TLS 1.3")


def check_date(certificate: CertificateFacts, now_s: float) -> None:
    """A connection outlives the certificate that it began with. Raises: UnauthenticatedError."""
    if not certificate.not_before_s <= now_s < certificate.not_after_s:
        raise UnauthenticatedError("this certificate is not valid at this time: renew it")


def check_standing(certificate: CertificateFacts, standing: Standing) -> None:
    """Raises: UnauthenticatedError (revoked, replaced, or used in two places)."""
    standing.check(certificate.key)


class Door(grpc.aio.ServerInterceptor):
    """Identifies each call on one listener and turns errors into typed statuses.

    ``kind`` token: pipelines, by what they show with each call. None: whoever calls is not
    known yet (enrolment). Without ``standing`` nothing is proved: callers say who they are.
    """

    def __init__(
        self,
        kind: Literal["device", "operator", "token"] | None,
        access: Access,
        standing: Standing | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kind = kind
        self._access = access
        self._standing = standing
        self._clock = clock

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(_OPEN_TO_ALL):
            return handler
        return self._wrapped(handler, details.method)

    async def _enter(self, context: Context, method: str, request: Any) -> Caller | None:
        """Raises: UnauthenticatedError, ForbiddenError."""
        if self._kind == "token":
            return await self._enter_by_token(context, method, request)
        who = self._proved(context) if self._standing is not None else self._said(context)
        if who is not None:
            since = self._changes()
            self._let_in(who, await self._access.rights(who, method), request, since)
        return who

    async def _enter_by_token(self, context: Context, method: str, request: Any) -> Caller:
        """A pipeline, which has no certificate: only on a listener that has none but TLS."""
        check_tls_version(context.auth_context())
        metadata: Any = context.invocation_metadata() or ()
        since = self._changes()
        rights = await self._access.bearer(bearer_token(metadata), method)
        who = Caller(kind="operator", name=rights.caller.name)
        self._let_in(who, rights, request, since)
        return who

    def _changes(self) -> int:
        return 0 if self._standing is None else self._standing.changes

    def _let_in(self, who: Caller, rights: Rights, request: Any, since: int) -> None:
        """While ``rights`` were read, somebody may have taken them, or refused the key.

        Raises: UnauthenticatedError.
        """
        if self._standing is not None:
            self._standing.check_since(since, who.key, who.operator)
        _CALLER.set(who)
        enter(replace(rights, request=request, since=since))

    def _proved(self, context: Context) -> Caller | None:
        assert self._standing is not None
        auth: Auth = context.auth_context()
        check_tls_version(auth)
        if self._kind is None:
            return None
        shown = list(auth.get("x509_pem_cert", ()))
        try:
            facts = _facts(shown[0]) if len(shown) == 1 else None
        except FormatError as error:
            raise UnauthenticatedError(error.message) from None
        if facts is None or facts.kind != self._kind:
            raise UnauthenticatedError(f"only a {self._kind}'s certificate is accepted here")
        check_date(facts, self._clock())
        check_standing(facts, self._standing)
        return Caller(kind=facts.kind, name=facts.name, certificate=facts)

    def _said(self, context: Context) -> Caller | None:
        if self._kind is None or self._kind == "token":
            return None
        key = DEVICE_KEY if self._kind == "device" else OPERATOR_KEY
        metadata: Any = context.invocation_metadata() or ()
        names = [value for said, value in metadata if said == key]
        if len(names) != 1:
            raise UnauthenticatedError(
                f"the call does not say which {self._kind} makes it (metadata {key})"
            )
        try:
            return Caller(kind=self._kind, name=check_segment(str(names[0]), self._kind))
        except FormatError as error:
            raise UnauthenticatedError(error.message) from None

    def _wrapped(self, handler: Any, method: str) -> Any:
        """``handler`` with its caller set and its errors typed."""

        async def one(request: Any, context: Context) -> Any:
            try:
                message = None if handler.request_streaming else request
                who = await self._enter(context, method, message)
                if handler.request_streaming:
                    return await self._received(handler, request, context, who)
                return await handler.unary_unary(request, context)
            except asyncio.CancelledError:
                raise  # swallowing it leaks an operation for each cancelled call (grpc#43360)
            except Exception as error:  # noqa: BLE001 - the last frame of ours: nothing may pass
                await _abort(context, error)

        async def many(request: Any, context: Context) -> AsyncIterator[Any]:
            try:
                who = await self._enter(context, method, request)
                async with aclosing(self._followed(handler, request, context, who)) as messages:
                    async for response in messages:
                        yield response
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - as above
                await _abort(context, error)

        behaviour: Any = many if handler.response_streaming else one
        make: Any = grpc.unary_unary_rpc_method_handler
        if handler.response_streaming:
            make = grpc.unary_stream_rpc_method_handler
        elif handler.request_streaming:
            make = grpc.stream_unary_rpc_method_handler
        return make(
            behaviour,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _follow(self, who: Caller | None) -> AbstractContextManager[OpenStream] | None:
        """For as long as what proves the caller is good; None where nothing was proved."""
        if self._standing is None or who is None:
            return None
        call = rights()
        if who.certificate is not None:
            until_s, what = who.certificate.not_after_s, "certificate"
        elif call.until_ms is not None:
            until_s, what = call.until_ms / 1000, "token"
        else:
            return None
        return self._standing.following(
            who.key,
            until_s - self._clock(),
            operator=who.operator,
            grants=call.grants,
            since=call.since,
            what=what,
        )

    async def _received(
        self, handler: Any, requests: Any, context: Context, who: Caller | None
    ) -> Any:
        """The answer to a stream of requests, if the certificate is good for as long."""
        followed = self._follow(who)
        if followed is None:
            return await handler.stream_unary(requests, context)
        with followed as stream:
            stream.waiting = True
            try:
                return await handler.stream_unary(requests, context)
            except asyncio.CancelledError:
                refused = stream.caught()
                if refused is None:
                    raise
                raise refused from None

    async def _followed(
        self, handler: Any, request: Any, context: Context, who: Caller | None
    ) -> AsyncGenerator[Any, None]:
        """The responses, for as long as the caller's certificate is good.

        Interceptors see only the beginning of a stream; a watch may last for days.
        """
        followed = self._follow(who)
        if followed is None:
            async for response in handler.unary_stream(request, context):
                yield response
            return
        with followed as stream:
            async with aclosing(handler.unary_stream(request, context)) as messages:
                try:
                    while True:
                        stream.waiting = True
                        try:
                            response = await anext(messages)
                        except StopAsyncIteration:
                            return
                        finally:
                            stream.waiting = False
                        stream.check()
                        yield response
                        stream.check()
                except asyncio.CancelledError:
                    refused = stream.caught()
                    if refused is None:
                        raise
                    raise refused from None


@lru_cache(maxsize=4096)
def _facts(certificate: bytes) -> CertificateFacts:
    """Parsed once for all calls of a connection."""
    return read_certificate(certificate)


async def _abort(context: Context, error: Exception) -> NoReturn:
    if not isinstance(error, EdgeError):
        if isinstance(error, grpc.aio.AbortError):
            raise error
        _LOG.error("a defect of ours in a call", exc_info=error)
    status = rpc_status.to_status(to_status(error))
    await context.abort_with_status(status)
    raise AssertionError("abort_with_status always raises")
