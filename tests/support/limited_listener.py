"""A listener of the distributor with a small service behind limits that a test chooses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from distributor.services import Limits, ServerCredentials, open_listener
from distributor.services.access import Named, Rights
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.rpc import FRAME_BYTES, MethodLimits, Rate

SERVICE = "/test.Service/"
_START_S = 30.0


@dataclass
class Small:
    """Its methods: Ask (unary), Watch (says one thing and waits), Pour (frames without end),
    Send (counts bytes)."""

    closed: list[str] = field(default_factory=list)  # streams that ended here
    asked: int = 0
    watching: int = 0

    async def ask(self, _request: delivery.PlanRequest, _context: Any) -> delivery.PlanResponse:
        self.asked += 1
        return delivery.PlanResponse(whole_bytes=7)

    async def watch(self, _request: Any, _context: Any) -> AsyncIterator[delivery.WatchEvent]:
        self.watching += 1
        try:
            yield delivery.WatchEvent(assignment_counter=1)
            await asyncio.Event().wait()
        finally:
            self.watching -= 1

    async def pour(self, _request: Any, _context: Any) -> AsyncIterator[delivery.FetchFrame]:
        try:
            while True:
                yield delivery.FetchFrame(data=bytes(FRAME_BYTES))
        finally:
            self.closed.append("Pour")

    async def send(self, requests: Any, _context: Any) -> delivery.PlanResponse:
        total = 0
        try:
            async for request in requests:
                total += len(request.frame.data)
        finally:
            self.closed.append("Send")
        return delivery.PlanResponse(whole_bytes=total)

    def register(self, server: grpc.aio.Server) -> None:
        out = delivery.PlanResponse.SerializeToString
        handlers = {
            "Ask": grpc.unary_unary_rpc_method_handler(
                self.ask,
                request_deserializer=delivery.PlanRequest.FromString,
                response_serializer=out,
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                self.watch,
                request_deserializer=delivery.WatchRequest.FromString,
                response_serializer=delivery.WatchEvent.SerializeToString,
            ),
            "Pour": grpc.unary_stream_rpc_method_handler(
                self.pour,
                request_deserializer=delivery.FetchRequest.FromString,
                response_serializer=delivery.FetchFrame.SerializeToString,
            ),
            "Send": grpc.stream_unary_rpc_method_handler(
                self.send,
                request_deserializer=fleet.PublishRequest.FromString,
                response_serializer=out,
            ),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Service", handlers),)
        )


class SmallClient:
    """Calls of the small service on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        answer = delivery.PlanResponse.FromString
        self.ask = channel.unary_unary(
            SERVICE + "Ask",
            request_serializer=lambda one: (
                one if isinstance(one, bytes) else one.SerializeToString()
            ),
            response_deserializer=answer,
        )
        self.watch = channel.unary_stream(
            SERVICE + "Watch",
            request_serializer=delivery.WatchRequest.SerializeToString,
            response_deserializer=delivery.WatchEvent.FromString,
        )
        self.pour = channel.unary_stream(
            SERVICE + "Pour",
            request_serializer=delivery.FetchRequest.SerializeToString,
            response_deserializer=delivery.FetchFrame.FromString,
        )
        self.send = channel.stream_unary(
            SERVICE + "Send",
            request_serializer=fleet.PublishRequest.SerializeToString,
            response_deserializer=answer,
        )


class _NoRules:
    """The methods of this service are in no table of roles."""

    async def rights(self, caller: Named, method: str) -> Rights:
        return Rights(caller=caller, method=method, grants=(), via="test")


@contextmanager
def limited_listener(
    table: Mapping[str, MethodLimits],
    *,
    rate: Rate | None = None,
    refused_wait_s: float = 0.0,
) -> Iterator[tuple[str, Small]]:
    """Its address and its service; ``table`` by method name alone."""
    small = Small()
    limits = Limits(
        table={SERVICE + name: one for name, one in table.items()},
        rate=rate or Rate(burst=1e6, per_s=1e6),
        refused_wait_s=refused_wait_s,
    )
    started = threading.Event()
    address: list[str] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def main() -> None:
        listener = await open_listener(
            "127.0.0.1:0",
            ServerCredentials(kind="device"),
            access=_NoRules(),  # type: ignore[arg-type]
            services=["test.Service"],
            register=small.register,
            limits=limits,
        )
        await listener.start()
        address.append(listener.address)
        ended = asyncio.Event()
        running.append((asyncio.get_running_loop(), ended))
        started.set()
        await ended.wait()
        await listener.stop(0)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert started.wait(_START_S)
        yield address[0], small
    finally:
        for loop, ended in running:
            loop.call_soon_threadsafe(ended.set)
        thread.join(_START_S)
