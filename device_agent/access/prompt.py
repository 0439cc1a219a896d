"""Calls that were begun and then say nothing: they keep a thread only while nobody wants it.

A synchronous server of gRPC gives a call its thread before its request is here, and waits for
that without end: a client that opens calls and sends nothing would take every thread. So
requests are waited for here, where it is known for how long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from device_agent.access.limits import LOCAL_LIMITS, REQUEST_S
from edge_sdk.base import EdgeError, FormatError, ResourceError, UsageError
from edge_sdk.rpc import limits_of, to_status

_NOTHING = object()
Context = grpc.ServicerContext


class Silent:
    """The calls of one server whose next message has not come. For any thread."""

    def __init__(
        self, patience_s: float = REQUEST_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
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

    def wrap(self, handler: Any, method: str) -> Any:
        """``handler``, waiting here for its one request, and parsing none that is larger than
        ``method`` takes. Those that take a stream stay as they are."""
        if handler.request_streaming:
            return handler
        parse, largest = handler.request_deserializer, limits_of(LOCAL_LIMITS, method).message_bytes

        def one(requests: Iterator[bytes], context: Context) -> Any:
            return handler.unary_unary(self._request(requests, context, parse, largest), context)

        def many(requests: Iterator[bytes], context: Context) -> Iterator[Any]:
            request = self._request(requests, context, parse, largest)
            yield from handler.unary_stream(request, context)

        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(
                many, response_serializer=handler.response_serializer
            )
        return grpc.stream_unary_rpc_method_handler(
            one, response_serializer=handler.response_serializer
        )

    def _request(
        self,
        requests: Iterator[bytes],
        context: Context,
        parse: Callable[[bytes], Any] | None,
        largest: int,
    ) -> Any:
        data = self.next_of(requests, context)
        if data is None:
            _abort(context, UsageError("the call ended without a request"))
        if len(data) > largest:
            message = f"the message has {len(data)} bytes; {largest} are allowed here"
            _abort(context, ResourceError(message, limit_bytes=largest))
        if parse is None:
            return data
        try:
            return parse(data)
        except DecodeError:
            _abort(context, FormatError("the message is none of this method"))


class Prompt(grpc.ServerInterceptor):
    """``Silent`` for every method of a server of ``threads`` threads."""

    def __init__(self, silent: Silent, threads: int) -> None:
        self._silent = silent
        self._enough = threads // 2
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        if self._silent.count >= self._enough:
            self._silent.end_overdue()
        handler = continuation(details)
        if handler is None:
            return None
        known = self._wrapped.get(details.method)
        if known is None or known[0] is not handler:
            known = (handler, self._silent.wrap(handler, details.method))
            self._wrapped[details.method] = known
        return known[1]


def _abort(context: Context, error: EdgeError) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError  # abort raises; this line is for the type checker
