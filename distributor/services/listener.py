"""The one function that opens a listener, from one ``ServerCredentials`` value."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from distributor.services.access import Access
from distributor.services.interceptor import Door
from distributor.services.limits import Limits, limits_for
from edge_sdk.base import ConflictError, UsageError
from edge_sdk.rpc import check_local

_IN_USE = (errno.EADDRINUSE,)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCredentials:
    """How a listener is protected and whom it admits.

    Until certificates exist it is plaintext: only this machine, unless ``insecure``.
    """

    kind: Literal["device", "operator"]
    insecure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A server that is bound but not started; ``address`` has the port it really got."""

    server: grpc.aio.Server
    address: str
    health: health.aio.HealthServicer

    async def start(self) -> None:
        await self.server.start()

    async def refuse_new(self) -> None:
        """Health says not serving; calls under way go on."""
        await self.health.enter_graceful_shutdown()

    async def stop(self, grace_s: float) -> None:
        await self.server.stop(grace_s)


async def open_listener(
    address: str,
    credentials: ServerCredentials,
    *,
    access: Access,
    services: Sequence[str],
    register: Callable[[grpc.aio.Server], None],
    limits: Limits | None = None,
) -> Listener:
    """Binds ``address`` with the services that ``register`` adds, health and reflection.

    ``limits``: None for those of the credentials' kind.

    Raises: RefusedError (not loopback), ConflictError (somebody else has the port),
    UsageError (no such address here).
    """
    check_local(address, insecure=credentials.insecure)
    limits = limits or limits_for(credentials.kind)
    server = grpc.aio.server(
        interceptors=limits.around(Door(credentials.kind, access)), options=limits.options()
    )
    register(server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", *services):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    bound = _bind(server, address)
    return Listener(server=server, address=bound, health=servicer)


def _bind(server: grpc.aio.Server, address: str) -> str:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if address.startswith("unix:"):
        if not port:
            raise UsageError(f"cannot listen on {address}")
        return address
    if not port:
        raise _why_not(address)
    return f"{address.rpartition(':')[0]}:{port}"


def _why_not(address: str) -> ConflictError | UsageError:
    """gRPC only says that it failed; a plain socket says why."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
        except OSError as error:
            if error.errno not in _IN_USE:
                return UsageError(f"cannot listen on {address}: {error.strerror or error}")
    return ConflictError(f"{address} is in use; another distributor may run there")
