"""Requests as they come in: that they are here, and no larger than they may be; and streams
that say nothing, which keep their place only while nobody wants it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from device_agent.access.guard import Guard
from device_agent.access.limits import LOCAL_LIMITS
from device_agent.access.threads import heard
from edge_sdk.base import EdgeError, FormatError, ResourceError
from edge_sdk.rpc import limits_of, to_status

_NOTHING = object()
_LATE_S = 0.05
Context = grpc.ServicerContext


class Silent:
    """The streams of one server whose next message has not come. For any thread."""

    def __init__(self, patience_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._waiting: dict[object, tuple[float, Context]] = {}

    @property
    def count(self) -> int:
        return len(self._waiting)

    def next_of(self, requests: Iterator[Any], context: Context) -> Any:
        """The next message; None: there is none. Raises: grpc.RpcError, where it was ended."""
        key = object()
        self._waiting[key] = (self._clock(), context)
        try:
            message = next(requests, _NOTHING)
        finally:
            del self._waiting[key]
        return None if message is _NOTHING else message

    def end_overdue(self) -> int:
        """Others wait for a place: those silent for too long lose theirs. How many did."""
        before_s = self._clock() - self._patience_s
        overdue = [one for since_s, one in list(self._waiting.values()) if since_s < before_s]
        for context in overdue:
            context.cancel()
        return len(overdue)


class Prompt(grpc.ServerInterceptor):
    """``prompt`` for every method of a server."""

    def __init__(self, guard: Guard | None = None) -> None:
        self._guard = guard
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = continuation(details)
        if handler is None:
            return None
        known = self._wrapped.get(details.method)
        if known is None or known[0] is not handler:
            known = (handler, prompt(handler, details.method, self._guard))
            self._wrapped[details.method] = known
        return known[1]


class _Unfit:
    """In place of a request: what is wrong with it. gRPC would say that the server failed."""

    __slots__ = ("error",)

    def __init__(self, error: EdgeError) -> None:
        self.error = error


def prompt(handler: Any, method: str, guard: Guard | None = None) -> Any:
    """``handler``, which says when its request is here, and is given none that is larger than
    ``method`` takes, nor one that came so late that ``guard`` may think otherwise by now."""
    act = _act(handler)

    def answer(request: Any, context: Context) -> Any:
        if heard() > _LATE_S and guard is not None:
            try:
                guard.check(method, context.invocation_metadata())
            except EdgeError as error:
                _abort(context, error)
        if type(request) is _Unfit:
            _abort(context, request.error)
        return act(request, context)

    if handler.request_streaming:
        return _made(handler)(answer, handler.request_deserializer, handler.response_serializer)
    largest = limits_of(LOCAL_LIMITS, method).message_bytes
    parse = _parse(handler.request_deserializer, largest)
    return _made(handler)(answer, parse, handler.response_serializer)


def _parse(parse: Callable[[bytes], Any] | None, largest: int) -> Callable[[bytes], Any]:
    def fitting(data: bytes) -> Any:
        if len(data) > largest:
            message = f"the message has {len(data)} bytes; {largest} are allowed here"
            return _Unfit(ResourceError(message, limit_bytes=largest))
        if parse is None:
            return data
        try:
            return parse(data)
        except DecodeError:
            return _Unfit(FormatError("the message is none of this method"))

    return fitting


def _act(handler: Any) -> Callable[[Any, Context], Any]:
    act: Callable[[Any, Context], Any] = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return act


def _made(handler: Any) -> Callable[..., Any]:
    if handler.request_streaming:
        both = grpc.stream_stream_rpc_method_handler
        return both if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    one = grpc.unary_stream_rpc_method_handler
    return one if handler.response_streaming else grpc.unary_unary_rpc_method_handler


def _abort(context: Context, error: EdgeError) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError  # abort raises; this line is for the type checker
