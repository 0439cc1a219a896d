"""Channels: the one function that opens them, from one ``Credentials`` value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc

from edge_sdk.base import UsageError
from edge_sdk.rpc.address import check_address, check_local
from edge_sdk.rpc.plaintext import allow_plaintext
from edge_sdk.rpc.tokens import AUTHORIZATION

FRAME_BYTES = 64 << 10  # the sweet spot of grpc.aio: 374 MB/s; 16 KiB and 256 KiB are slower
METADATA_BYTES_MAX = 16 << 10  # of one call, as gRPC counts it
MESSAGE_BYTES_MAX = 64 << 20  # manifests of large models; the default of 4 MiB is too small

# Client and server agree: a client pings each 30 s, also without calls; a server takes pings
# from 10 s on. Without the second number a server ends idle watches with "Too many pings".
_KEEPALIVE_MS = 30_000
_KEEPALIVE_TIMEOUT_MS = 10_000
_PING_INTERVAL_MIN_MS = 10_000

Options = Sequence[tuple[str, int]]

CHANNEL_OPTIONS: Options = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),  # retries are ours: only for what is safe to repeat
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
)

SERVER_OPTIONS: Options = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", _PING_INTERVAL_MIN_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", _PING_INTERVAL_MIN_MS),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it silently
)


def small_messages(options: Options, message_bytes: int) -> list[tuple[str, int]]:
    """``options`` of a server that takes no message above ``message_bytes``, and no metadata
    above what names and tokens need: gRPC refuses them before they lie in memory."""
    changed = {
        "grpc.max_receive_message_length": message_bytes,
        "grpc.max_metadata_size": METADATA_BYTES_MAX,
        "grpc.absolute_max_metadata_size": METADATA_BYTES_MAX,
    }
    return [*(pair for pair in options if pair[0] not in changed), *changed.items()]


_NAME_LENGTH_MAX = 256  # servers refuse calls with more than a few KiB of metadata
DEVICE_KEY = "edge-device"
OPERATOR_KEY = "edge-operator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM texts: whom to trust, and the caller's own key and certificate where it has them."""

    roots: bytes
    key: bytes | None = field(default=None, repr=False)
    certificate: bytes | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.roots, self.key, self.certificate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who the caller is and how the channel is protected.

    With ``tls`` the certificate says who calls, to whatever machine. ``device`` and
    ``operator`` are names that are only said, for tests (see ``plaintext``). With none of
    them the channel is that of an app to the agent of its own machine.
    """

    device: str | None = None
    operator: str | None = None
    token: str | None = field(default=None, repr=False)  # of an app or a pipeline
    tls: Tls | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Raises: UsageError where a name cannot travel as metadata."""
        pairs = ((DEVICE_KEY, self.device), (OPERATOR_KEY, self.operator))
        named = tuple((key, value) for key, value in pairs if value is not None)
        for key, value in named:
            if not (value.isascii() and value.isprintable() and len(value) <= _NAME_LENGTH_MAX):
                raise UsageError(
                    f"{key.removeprefix('edge-')} {value[:80]!r} is not a name: use printable "
                    f"ASCII, at most {_NAME_LENGTH_MAX} characters"
                )
        if self.token is not None:
            return (*named, (AUTHORIZATION, f"Bearer {self.token}"))
        return named


def open_channel(
    address: str, credentials: Credentials, *, options: Options = CHANNEL_OPTIONS
) -> grpc.Channel:
    """A channel to ``address``: ``host:port`` or ``unix:/path``. Nothing is sent yet.

    Raises: UsageError (no such form of address), RefusedError (a plaintext channel would
    leave this machine, or says who calls without proof).
    """
    check_address(address)
    if credentials.tls is not None:
        channel = grpc.secure_channel(address, credentials.tls.credentials(), options=list(options))
        shown = credentials.metadata() if credentials.token is not None else ()
        return grpc.intercept_channel(channel, _Identify(shown)) if shown else channel
    named = credentials.metadata()
    if credentials.device is not None or credentials.operator is not None:
        allow_plaintext(address)
    else:
        check_local(address)
    channel = grpc.insecure_channel(address, options=list(options))
    return grpc.intercept_channel(channel, _Identify(named)) if named else channel


class _Identify(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the caller's identity to the metadata of each call."""

    def __init__(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def _details(self, details: grpc.ClientCallDetails) -> grpc.ClientCallDetails:
        return _Details(details, (*(details.metadata or ()), *self._metadata))

    def intercept_unary_unary(self, continuation, details, request):  # type: ignore[no-untyped-def]
        return continuation(self._details(details), request)

    def intercept_unary_stream(self, continuation, details, request):  # type: ignore[no-untyped-def]
        return continuation(self._details(details), request)

    def intercept_stream_unary(self, continuation, details, requests):  # type: ignore[no-untyped-def]
        return continuation(self._details(details), requests)

    def intercept_stream_stream(self, continuation, details, requests):  # type: ignore[no-untyped-def]
        return continuation(self._details(details), requests)


class _Details(grpc.ClientCallDetails):
    def __init__(
        self, details: grpc.ClientCallDetails, metadata: tuple[tuple[str, str | bytes], ...]
    ) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = metadata
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression
