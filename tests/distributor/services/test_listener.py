"""A listener binds or says why not."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from distributor.services import Listener, ServerCredentials, open_listener
from edge_sdk.base import ConflictError, RefusedError, UsageError


def _open(address: str) -> Awaitable[Listener]:
    kind: Literal["device", "operator"] = "device"
    nobody: Any = None  # no call of these tests comes to an identity
    return open_listener(
        address,
        ServerCredentials(kind=kind),
        access=nobody,
        services=["test.Service"],
        register=lambda _server: None,
    )


def _run(act: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await act()

    asyncio.run(main())


def test_a_free_port_is_named() -> None:
    """Port 0 takes a free port and says which; a health check answers there until the end."""

    async def act() -> None:
        listener = await _open("127.0.0.1:0")
        await listener.start()
        assert not listener.address.endswith(":0")
        request = health_pb2.HealthCheckRequest(service="test.Service")
        async with grpc.aio.insecure_channel(listener.address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
            await listener.refuse_new()
            answer = await stub.Check(request)
            assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        await listener.stop(0)

    _run(act)


def test_a_port_that_somebody_has() -> None:
    """Whoever has the port, the error names it as in use."""

    async def act() -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with pytest.raises(ConflictError, match="in use"):
                await _open(f"127.0.0.1:{other.getsockname()[1]}")

    _run(act)


def test_addresses_that_cannot_be(tmp_path: Path) -> None:
    """Not loopback, not here, or no address at all: each is refused by name."""

    async def act() -> None:
        with pytest.raises(RefusedError):
            await _open("192.0.2.1:7443")
        with pytest.raises(UsageError, match="neither"):
            await _open("somewhere")
        with pytest.raises(UsageError, match="cannot listen"):
            await _open(f"unix:{tmp_path}/no/such/folder/d.sock")

    _run(act)
