"""The one function that opens a listener, from one ``ServerCredentials`` value."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from distributor.identity import ServerFiles
from distributor.services.access import Access
from distributor.services.interceptor import Door
from distributor.services.limits import Limits, limits_for
from distributor.services.standing import Standing
from edge_sdk.base import ConflictError, EdgeError, UsageError
from edge_sdk.rpc import allow_plaintext, check_address, check_plaintext

_IN_USE = (errno.EADDRINUSE,)


_AGE_GRACE_MS = 60_000  # for calls under way on a connection that has become too old
# Whoever connects and says nothing costs a socket; gRPC itself would wait for two minutes.
HANDSHAKE_MS = 30_000
NEWCOMER_IDLE_MS = 60_000  # of a connection without a certificate and without a call

_LOG = logging.getLogger(__name__)


class Material(Protocol):
    """Where a listener's key, chain and roots come from."""

    def current(self) -> ServerFiles:
        """Asked for each new connection, from any thread; the same value until it changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """``age_s``: how long a connection may live, so that what changed takes effect on it."""

    material: Material
    standing: Standing
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCredentials:
    """How a listener is protected and whom it admits: devices, operators, pipelines with a
    token, or (None) whoever has no certificate yet. Without ``tls`` it is plaintext, which only
    tests may ask for."""

    kind: Literal["device", "operator", "token"] | None
    tls: ServerTls | None = None


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

    Raises: RefusedError (plaintext without the switch for tests, or not loopback),
    ConflictError (somebody else has the port), UsageError (no such address here).
    """
    check_address(address)
    limits = limits or limits_for(credentials.kind)
    options = list(limits.options())
    tls = credentials.tls
    if tls is None:
        check_plaintext(address)
    else:
        options.append(("grpc.max_connection_age_ms", int(tls.age_s * 1000)))
        options.append(("grpc.max_connection_age_grace_ms", _AGE_GRACE_MS))
        options.append(("grpc.server_handshake_timeout_ms", HANDSHAKE_MS))
        if credentials.kind is None:
            options.append(("grpc.max_connection_idle_ms", NEWCOMER_IDLE_MS))
    door = Door(credentials.kind, access, tls.standing if tls is not None else None)
    server = grpc.aio.server(interceptors=limits.around(door), options=options)
    register(server)
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", *services):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*services, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    asks = credentials.kind in ("device", "operator")
    secured = None if tls is None else _secured(tls.material, clients=asks)
    bound = _bind(server, address, secured)
    if tls is None:
        allow_plaintext(bound)
    return Listener(server=server, address=bound, health=servicer)


def _secured(material: Material, *, clients: bool) -> grpc.ServerCredentials:
    """Follows ``material`` from connection to connection: a rotation needs no restart."""

    def configuration(files: ServerFiles) -> grpc.ServerCertificateConfiguration:
        roots = files.roots if clients else None
        return grpc.ssl_server_certificate_configuration([(files.key, files.chain)], roots)

    last = material.current()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal last
        try:
            files = material.current()
        except (OSError, EdgeError) as error:
            _LOG.error("the certificate of a listener cannot be read again: %s", error)
            return None
        if files is last:
            return None
        last = files
        return configuration(files)

    return grpc.dynamic_ssl_server_credentials(
        configuration(last),
        newer,  # type: ignore[arg-type] # None: go on with what there is
        require_client_authentication=clients,
    )


def _bind(server: grpc.aio.Server, address: str, secured: grpc.ServerCredentials | None) -> str:
    try:
        if secured is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, secured)
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
