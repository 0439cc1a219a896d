"""The one place where a call gets its identity and its errors get their form.

Until certificates exist the identity is what the caller's metadata says. Services ask
``caller()``; no message carries identity.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

import grpc
from grpc_status import rpc_status

from distributor.errors import UnauthenticatedError
from distributor.services.access import Access, Rights, enter
from edge_sdk.base import EdgeError, FormatError, check_segment
from edge_sdk.rpc import DEVICE_KEY, OPERATOR_KEY, to_status

_LOG = logging.getLogger(__name__)
_OPEN_TO_ALL = "/grpc."  # health and reflection


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a call, as far as the connection proves it."""

    kind: Literal["device", "operator"]
    name: str


_CALLER: ContextVar[Caller] = ContextVar("caller")


def caller() -> Caller:
    """Who makes the call that is being answered."""
    return _CALLER.get()


class Door(grpc.aio.ServerInterceptor):
    """Identifies each call on one listener and turns errors into typed statuses."""

    def __init__(self, kind: Literal["device", "operator"], access: Access) -> None:
        self._kind = kind
        self._access = access
        self._key = DEVICE_KEY if kind == "device" else OPERATOR_KEY

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith(_OPEN_TO_ALL):
            return handler
        try:
            who = self._identify(details.invocation_metadata)
            rights = await self._access.rights(who, details.method)
        except EdgeError as error:
            return _wrapped(handler, None, error)
        return _wrapped(handler, (who, rights), None)

    def _identify(self, metadata: Any) -> Caller:
        names = [value for key, value in metadata or () if key == self._key]
        if len(names) != 1:
            raise UnauthenticatedError(
                f"the call does not say which {self._kind} makes it (metadata {self._key})"
            )
        try:
            return Caller(kind=self._kind, name=check_segment(names[0], self._kind))
        except FormatError as error:
            raise UnauthenticatedError(error.message) from None


def _wrapped(handler: Any, call: tuple[Caller, Rights] | None, refusal: EdgeError | None) -> Any:
    """``handler`` with its caller set, its errors typed, or nothing but the refusal."""

    async def one(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            _enter(call, refusal, None if handler.request_streaming else request)
            behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
            return await behaviour(request, context)
        except asyncio.CancelledError:
            raise  # swallowing it leaks an operation for each cancelled call (grpc#43360)
        except Exception as error:  # noqa: BLE001 - the last frame of ours: nothing may pass
            await _abort(context, error)

    async def many(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
        try:
            _enter(call, refusal, request)
            async for response in handler.unary_stream(request, context):
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


def _enter(call: tuple[Caller, Rights] | None, refusal: EdgeError | None, request: Any) -> None:
    if refusal is not None:
        raise refusal
    if call is not None:
        who, rights = call
        _CALLER.set(who)
        enter(replace(rights, request=request))


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    if not isinstance(error, EdgeError):
        if isinstance(error, grpc.aio.AbortError):
            raise error
        _LOG.error("a defect of ours in a call", exc_info=error)
    status = rpc_status.to_status(to_status(error))
    await context.abort_with_status(status)
    raise AssertionError("abort_with_status always raises")
