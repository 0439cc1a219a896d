"""What one caller may ask of the distributor, by method, and the interceptors that hold it.

``HeldToSize`` stands outermost: it sees messages before they are parsed and streams as they
really move. ``Admitted`` stands within the door that says who calls. docs/limits.md shows the
tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from distributor.services.interceptor import caller
from edge_sdk.base import EdgeError, FormatError, ResourceError, UnavailableError
from edge_sdk.rpc import (
    OTHER,
    SERVER_OPTIONS,
    Admission,
    MethodLimits,
    Rate,
    limits_of,
    small_messages,
    to_status,
)

_DELIVERY = "/edge.delivery.v1.DeliveryService/"
_FLEET = "/edge.fleet.v1.FleetService/"

_OPERATORS = "/edge.operators.v1.OperatorService/"
_CONTENT = "/edge.operators.v1.ContentService/"
_AUDIT = "/edge.operators.v1.AuditService/"
_METADATA = "/edge.metadata.v1.MetadataService/"
# One refresh of a device may ask for every root there ever was, and for many hash bins.
_GET = {_METADATA + "Get": MethodLimits(message_bytes=1 << 10, cost=0.1)}

_IDENTITY = "/edge.identity.v1."
_RENEW = {_IDENTITY + "RenewalService/Renew": MethodLimits(message_bytes=8 << 10)}

DEVICE_LIMITS: Mapping[str, MethodLimits] = MappingProxyType(
    {
        _DELIVERY + "CheckIn": MethodLimits(message_bytes=1 << 20, all=4096),
        # An idle watch costs 24 to 84 KiB (mTLS): what one process holds without strain.
        _DELIVERY + "Watch": MethodLimits(message_bytes=4 << 10, each=4, all=20_000),
        _DELIVERY + "Plan": MethodLimits(message_bytes=1 << 20, each=4),
        # A stalled reader holds about 1 MiB here. A slow device takes its time, so the limit
        # is far from what any link needs for 64 KiB.
        _DELIVERY + "Fetch": MethodLimits(message_bytes=4 << 10, stall_s=120.0),
        _DELIVERY + "Report": MethodLimits(message_bytes=4 << 20, each=4),
        **_GET,
        **_RENEW,
    }
)
DEVICE_RATE = Rate(burst=400, per_s=20)

OPERATOR_LIMITS: Mapping[str, MethodLimits] = MappingProxyType(
    {
        _FLEET + "MissingFiles": MethodLimits(message_bytes=8 << 20),
        # The first message is the manifest, of at most 64 MiB; 64 KiB in a minute is a link
        # that nobody publishes a model over.
        _FLEET + "Publish": MethodLimits(
            message_bytes=(64 << 20) + 1024, each=4, all=16, pace_bytes=64 << 10
        ),
        **{
            _FLEET + name: MethodLimits(each=32)
            for name in (
                *("ListModels", "ListStorage", "ListDevices", "LabelDevice", "ExplainDevice"),
                *("GetRollout", "ListRollouts", "WatchRollout", "AbortRollout", "UndoRollout"),
            )
        },
        # A cohort may name every device.
        _FLEET + "PlanRollout": MethodLimits(message_bytes=8 << 20),
        _FLEET + "CreateRollout": MethodLimits(message_bytes=8 << 20),
        **{
            _OPERATORS + name: MethodLimits(message_bytes=64 << 10, each=8)
            for name in (
                *("WhoAmI", "ListOperators", "AddOperator", "SetRoles", "RemoveOperator"),
                "MintToken",
            )
        },
        _FLEET + "EvidencePolicy": MethodLimits(message_bytes=1 << 10, each=8),
        _CONTENT + "FetchFile": MethodLimits(message_bytes=4 << 10, each=4, all=16),
        _CONTENT + "FetchEvidence": MethodLimits(message_bytes=1 << 10, each=4, all=16),
        _AUDIT + "ListEntries": MethodLimits(message_bytes=1 << 10, each=4),
        _AUDIT + "SignedHead": MethodLimits(message_bytes=1 << 10, each=8),
        **{
            f"{_IDENTITY}IdentityService/{name}": MethodLimits(each=32)
            for name in (
                *("CreateToken", "ListTokens", "RevokeToken"),
                *("ListIdentities", "Approve", "Revoke"),
            )
        },
        **_GET,
        **_RENEW,
        _METADATA + "Put": MethodLimits(message_bytes=32 << 20, each=4, all=16),
        _METADATA + "OnlineKeys": MethodLimits(),
    }
)
OPERATOR_RATE = Rate(burst=1000, per_s=50)

# Whoever calls here is known by its address alone; devices behind one router share it.
ENROLMENT_LIMITS: Mapping[str, MethodLimits] = MappingProxyType(
    {
        _IDENTITY + "EnrolmentService/Trust": MethodLimits(message_bytes=1 << 10),
        _IDENTITY + "EnrolmentService/Enrol": MethodLimits(message_bytes=32 << 10),
        _IDENTITY + "EnrolmentService/RenewExpired": MethodLimits(message_bytes=16 << 10),
    }
)
ENROLMENT_RATE = Rate(burst=200, per_s=20)

STREAMS_MAX = 1024  # of one connection; more wait at the client
_REFUSED_WAIT_S = 1.0  # a caller above its rate hears so after this long, and is slower for it
_REFUSED_WAITING_MAX = 32  # of one caller; more hear at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one listener."""

    table: Mapping[str, MethodLimits]
    rate: Rate
    refused_wait_s: float = _REFUSED_WAIT_S

    def options(self) -> list[tuple[str, int]]:
        """Of the server: what gRPC itself refuses, before memory is taken for it."""
        largest = max(one.message_bytes for one in (*self.table.values(), MethodLimits()))
        return [
            *small_messages(SERVER_OPTIONS, max(largest, OTHER.message_bytes) + 1024),
            ("grpc.max_concurrent_streams", STREAMS_MAX),
        ]

    def around(self, *doors: grpc.aio.ServerInterceptor) -> Sequence[grpc.aio.ServerInterceptor]:
        """The interceptors of a listener: ``doors`` say who calls, and type errors."""
        return (HeldToSize(self.table), *doors, Admitted(self))


def limits_for(kind: Literal["device", "operator", "token"] | None) -> Limits:
    """None: of those who are not known yet."""
    if kind is None:
        return Limits(table=ENROLMENT_LIMITS, rate=ENROLMENT_RATE)
    if kind == "device":
        return Limits(table=DEVICE_LIMITS, rate=DEVICE_RATE)
    return Limits(table=OPERATOR_LIMITS, rate=OPERATOR_RATE)


@dataclass(frozen=True, slots=True)
class _Refused:
    """Stands for a message that was not parsed."""

    error: EdgeError


class HeldToSize(grpc.aio.ServerInterceptor):
    """Messages and metadata no larger than the method's, and no stream that stands still."""

    def __init__(self, table: Mapping[str, MethodLimits]) -> None:
        self._table = table

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        limits = limits_of(self._table, details.method)
        held_bytes = sum(len(key) + len(value) for key, value in details.invocation_metadata or ())
        if held_bytes > limits.metadata_bytes:
            message = f"{held_bytes} bytes of metadata; {limits.metadata_bytes} are allowed"
            return _refusing(handler, ResourceError(message))
        return _held(handler, limits)


def _held(handler: Any, limits: MethodLimits) -> Any:
    behaviour, make = _behaviour_of(handler)

    async def one(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(_let_in(request, limits), context)
        except EdgeError as error:  # of calls that no door types: health and reflection
            return await _abort(context, error)

    async def many(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            responses = behaviour(_let_in(request, limits), context)
            if inspect.isawaitable(responses):
                await responses  # health's: it writes by itself, a word now and then
            else:
                await _write(responses, context, limits.stall_s)
        except EdgeError as error:
            await _abort(context, error)

    return make(
        many if handler.response_streaming else one,
        request_deserializer=_sized(handler.request_deserializer, limits.message_bytes),
        response_serializer=handler.response_serializer,
    )


def _behaviour_of(handler: Any) -> tuple[Callable[..., Any], Any]:
    """What answers, and what makes such a handler."""
    if handler.request_streaming and handler.response_streaming:
        return handler.stream_stream, grpc.stream_stream_rpc_method_handler
    if handler.response_streaming:
        return handler.unary_stream, grpc.unary_stream_rpc_method_handler
    if handler.request_streaming:
        return handler.stream_unary, grpc.stream_unary_rpc_method_handler
    return handler.unary_unary, grpc.unary_unary_rpc_method_handler


def _let_in(request: Any, limits: MethodLimits) -> Any:
    """A message as it is, a stream of them paced. Raises: what a message was refused for."""
    if isinstance(request, _Refused):
        raise request.error
    return _paced(request, limits) if hasattr(request, "__aiter__") else request


def _sized(parse: Callable[[bytes], Any], message_bytes: int) -> Callable[[bytes], Any]:
    """``parse``, but what is too large or no message is refused, and the first not parsed."""

    def deserialize(data: bytes) -> Any:
        if len(data) > message_bytes:
            return _Refused(
                ResourceError(
                    f"the message has {len(data)} bytes; {message_bytes} are allowed here",
                    limit_bytes=message_bytes,
                )
            )
        try:
            return parse(data)
        except DecodeError:
            return _Refused(FormatError("the message is none of this method"))

    return deserialize


async def _paced(requests: AsyncIterator[Any], limits: MethodLimits) -> AsyncIterator[Any]:
    """Raises: UnavailableError where ``pace_bytes`` do not come in ``stall_s`` of waiting."""
    clock = asyncio.get_running_loop().time
    waited_s, got_bytes = 0.0, 0
    while True:
        began_s = clock()
        try:
            async with asyncio.timeout(limits.stall_s - waited_s):
                message = await anext(requests, None)
        except TimeoutError:
            raise UnavailableError(
                f"nothing, or too little, came for {limits.stall_s:g} s; send it again"
            ) from None
        if message is None:
            return
        if isinstance(message, _Refused):
            raise message.error
        waited_s += clock() - began_s
        got_bytes += message.ByteSize()
        if got_bytes >= limits.pace_bytes:
            waited_s, got_bytes = 0.0, 0
        yield message


async def _write(
    responses: AsyncGenerator[Any, None],
    context: grpc.aio.ServicerContext[Any, Any],
    stall_s: float,
) -> None:
    """Sends what comes. Only sending has a time limit: a watch may wait as long as it likes."""
    clock = asyncio.get_running_loop().time
    try:
        # Closed first of all, however it ends: what it holds is free before the status, which
        # waits behind what nobody reads.
        async with contextlib.aclosing(responses), asyncio.timeout(None) as limit:
            async for response in responses:
                limit.reschedule(clock() + stall_s)
                await context.write(response)
                limit.reschedule(None)
    except TimeoutError:
        if not limit.expired():
            raise
        await _abort(context, UnavailableError(f"nothing was read for {stall_s:g} s"))


def _refusing(handler: Any, error: EdgeError) -> Any:
    async def one(_request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await _abort(context, error)

    return _behaviour_of(handler)[1](one)


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: EdgeError) -> None:
    await context.abort_with_status(rpc_status.to_status(to_status(error)))


class Admitted(grpc.aio.ServerInterceptor):
    """No more calls of one caller than its rate and its share of each method allow."""

    def __init__(self, limits: Limits) -> None:
        self._admission = Admission(limits.table, limits.rate)
        self._refused_wait_s = limits.refused_wait_s
        self._waiting: dict[str, int] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method
        behaviour, make = _behaviour_of(handler)

        async def one(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            await self._enter(method, context)
            return await behaviour(request, context)

        async def many(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            await self._enter(method, context)
            async with contextlib.aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response

        as_generator = handler.response_streaming and not inspect.iscoroutinefunction(behaviour)
        return make(
            many if as_generator else one,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _enter(self, method: str, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        """Raises: BusyError."""
        who = _who(context)
        try:
            self._admission.enter(who, method, asyncio.get_running_loop().time())
        except EdgeError:
            await self._let_wait(who)
            raise
        # A stalled stream that was given up counts until it has really ended.
        context.add_done_callback(lambda _: self._admission.leave(who, method))  # type: ignore[arg-type]

    async def _let_wait(self, who: str) -> None:
        """Answers at once would be asked for again at once, and cost what serving costs."""
        waiting = self._waiting.get(who, 0)
        if waiting >= _REFUSED_WAITING_MAX:
            return
        self._waiting[who] = waiting + 1
        try:
            await asyncio.sleep(self._refused_wait_s)
        finally:
            self._waiting[who] -= 1
            if not self._waiting[who]:
                del self._waiting[who]


def _who(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """The identified caller; where the door asks nobody who they are, the machine."""
    try:
        one = caller()
    except LookupError:
        return context.peer().rpartition(":")[0]
    return f"{one.kind} {one.name}"
