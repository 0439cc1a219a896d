"""Channels leave this machine only on purpose, and carry the caller's identity on each call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from edge_sdk.base import RefusedError, UsageError
from edge_sdk.rpc import (
    CHANNEL_OPTIONS,
    MESSAGE_BYTES_MAX,
    SERVER_OPTIONS,
    Credentials,
    check_local,
    open_channel,
)

ECHO = "/edge.test/"
Seen = list[dict[str, str]]


class Echo(grpc.GenericRpcHandler):
    """Answers every kind of call with what it got, and notes the metadata of each."""

    def __init__(self) -> None:
        self.seen: Seen = []

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        self.seen.append({key: str(value) for key, value in call.invocation_metadata})
        kinds: dict[str, Callable[[], grpc.RpcMethodHandler]] = {
            "Unary": lambda: grpc.unary_unary_rpc_method_handler(lambda one, _: one),
            "Stream": lambda: grpc.unary_stream_rpc_method_handler(lambda one, _: iter([one, one])),
            "Publish": lambda: grpc.stream_unary_rpc_method_handler(lambda all_, _: b"".join(all_)),
        }
        return kinds[call.method.removeprefix(ECHO)]()


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[tuple[str, Echo]]:
    """A server on a Unix socket and on a port of this machine."""
    handler = Echo()
    server = grpc.server(ThreadPoolExecutor(2), options=list(SERVER_OPTIONS))
    server.add_generic_rpc_handlers((handler,))
    address = f"unix:{tmp_path}/s"
    server.add_insecure_port(address)
    server.start()
    yield address, handler
    server.stop(None).wait()


def test_identity_travels_on_each_kind_of_call(echo: tuple[str, Echo]) -> None:
    """Unary, response stream and request stream all carry who calls."""
    address, handler = echo
    with open_channel(address, Credentials(device="cam-17", operator="ann")) as channel:
        assert channel.unary_unary(ECHO + "Unary")(b"a", timeout=10) == b"a"
        assert list(channel.unary_stream(ECHO + "Stream")(b"b", timeout=10)) == [b"b", b"b"]
        assert channel.stream_unary(ECHO + "Publish")(iter([b"c", b"d"]), timeout=10) == b"cd"
    assert len(handler.seen) == 3
    for metadata in handler.seen:
        assert metadata["edge-device"] == "cam-17"
        assert metadata["edge-operator"] == "ann"


def test_metadata_of_a_call_is_kept(echo: tuple[str, Echo]) -> None:
    """What a call brings along itself travels beside the identity."""
    address, handler = echo
    with open_channel(address, Credentials(device="cam-17")) as channel:
        channel.unary_unary(ECHO + "Unary")(b"", timeout=10, metadata=(("trace", "t1"),))
    assert handler.seen[0]["trace"] == "t1"
    assert handler.seen[0]["edge-device"] == "cam-17"
    assert "edge-operator" not in handler.seen[0]


def test_large_messages_pass(echo: tuple[str, Echo]) -> None:
    """A manifest of more than gRPC's default of 4 MiB passes in both directions."""
    address, _ = echo
    with open_channel(address, Credentials()) as channel:
        data = bytes(6 << 20)
        assert channel.unary_unary(ECHO + "Unary")(data, timeout=30) == data


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:7443", "127.8.8.8:1", "[::1]:7443", "localhost:0", "unix:/run/x.sock", "unix:x"],
)
def test_this_machine_is_allowed(address: str) -> None:
    """Loopback addresses and Unix sockets need no permission."""
    check_local(address)


@pytest.mark.parametrize(
    "address", ["10.0.0.1:7443", "0.0.0.0:7443", "[::]:7443", "example.org:443", "localhost.x:1"]
)
def test_other_machines_are_refused(address: str) -> None:
    """A plaintext channel to another machine is refused."""
    with pytest.raises(RefusedError, match="not be protected"):
        check_local(address)
    with pytest.raises(RefusedError):
        open_channel(address, Credentials(device="cam-17"))


@pytest.mark.parametrize(
    "address", ["", "localhost", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536",
                ":7443", "127.0.0.1:-1", "127.0.0.1:٣"]
)  # fmt: skip
def test_addresses_that_are_none(address: str) -> None:
    """What is neither host:port nor a Unix socket is wrong usage."""
    with pytest.raises(UsageError, match="host:port"):
        check_local(address)


def test_keepalive_agrees_on_both_sides() -> None:
    """A client never pings faster than a server takes it, else idle watches are ended."""
    client, server = dict(CHANNEL_OPTIONS), dict(SERVER_OPTIONS)
    taken_ms = server["grpc.http2.min_recv_ping_interval_without_data_ms"]
    assert client["grpc.keepalive_time_ms"] > taken_ms
    assert client["grpc.max_receive_message_length"] == MESSAGE_BYTES_MAX
    assert client["grpc.enable_retries"] == 0
    assert server["grpc.so_reuseport"] == 0


def test_second_server_on_a_port_is_noticed() -> None:
    """A second server on the same port fails instead of sharing it silently."""
    first = grpc.server(ThreadPoolExecutor(1), options=list(SERVER_OPTIONS))
    port = first.add_insecure_port("127.0.0.1:0")
    first.start()
    try:
        second = grpc.server(ThreadPoolExecutor(1), options=list(SERVER_OPTIONS))
        with pytest.raises(RuntimeError):
            second.add_insecure_port(f"127.0.0.1:{port}")
    finally:
        first.stop(None).wait()
