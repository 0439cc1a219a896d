"""Over TCP a call shows a token, and gets what the app's roles allow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from device_agent.access import AppTokens, Guard
from edge_sdk.base import TrustError, UnauthenticatedError
from edge_sdk.rpc import Credentials, open_channel, typed_errors

AGENT = "/edge.agent.v1.AgentService/"
INFER = "/inference.GRPCInferenceService/ModelInfer"


class Echo(grpc.GenericRpcHandler):
    """Answers every method, one of them in a stream."""

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if call.method == AGENT + "Events":
            return grpc.unary_stream_rpc_method_handler(lambda one, _: iter([one, one]))
        return grpc.unary_unary_rpc_method_handler(lambda one, _: one)


@pytest.fixture
def tokens(tmp_path: Path) -> AppTokens:
    return AppTokens(tmp_path)


@pytest.fixture
def address(tokens: AppTokens) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[Guard(tokens=tokens)])
    server.add_generic_rpc_handlers((Echo(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def ask(address: str, token: str | None, method: str) -> bytes:
    with (
        open_channel(address, Credentials(token=token)) as channel,
        typed_errors("the agent"),
    ):
        if method == AGENT + "Events":
            return b"".join(channel.unary_stream(method)(b"x", timeout=20))
        return channel.unary_unary(method)(b"x", timeout=20)


@pytest.mark.parametrize("token", [None, "edge-app.wrong", "x" * 1024])
def test_without_a_token_nothing_is_answered(address: str, token: str | None) -> None:
    """None at all, one that nobody was given, one of any length; on this machine as well."""
    for method in (INFER, AGENT + "Status", AGENT + "Events", AGENT + "New"):
        with pytest.raises(UnauthenticatedError):
            ask(address, token, method)


def test_a_role_is_what_it_may(address: str, tokens: AppTokens) -> None:
    """The app's token opens what its role is for; the rest is refused by name."""
    camera, panel = tokens.add("camera", ["infer"]), tokens.add("panel", ["control"])
    assert ask(address, camera, INFER) == b"x"
    assert ask(address, camera, AGENT + "Events") == b"xx"
    assert ask(address, panel, AGENT + "Rollback") == b"x"
    for token, method in ((camera, AGENT + "Rollback"), (panel, INFER), (panel, AGENT + "New")):
        with pytest.raises(TrustError, match="not for the role") as refused:
            ask(address, token, method)
        assert not isinstance(refused.value, UnauthenticatedError)


def test_a_removed_app_is_out(address: str, tokens: AppTokens) -> None:
    """From its next call on, on the connection that it has."""
    token = tokens.add("camera", ["infer"])
    with open_channel(address, Credentials(token=token)) as channel, typed_errors("the agent"):
        call = channel.unary_unary(INFER)
        assert call(b"x", timeout=20) == b"x"
        tokens.remove("camera")
        with pytest.raises(grpc.RpcError) as refused:
            call(b"x", timeout=20)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_what_is_shown_twice_shows_nothing(address: str, tokens: AppTokens) -> None:
    """Neither of two tokens counts; another scheme than Bearer is none."""
    token = tokens.add("camera", ["infer"])
    for headers in (
        [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")],
        [("authorization", f"Basic {token}")],
        [("authorization", token)],
        [("authorization", "Bearer")],
        [("x-authorization", f"Bearer {token}")],
    ):
        with grpc.insecure_channel(address) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(INFER)(b"x", timeout=20, metadata=headers)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with grpc.insecure_channel(address) as channel:
        shown = [("authorization", f"bearer {token}")]
        assert channel.unary_unary(INFER)(b"x", timeout=20, metadata=shown) == b"x"


def test_strangers_take_no_threads(address: str, tokens: AppTokens) -> None:
    """Calls without a token are refused though their request never comes, and hold nobody up."""
    over = threading.Event()

    def silent() -> Iterator[bytes]:
        over.wait(30)
        yield b""

    token = tokens.add("camera", ["infer"])
    with open_channel(address, Credentials()) as channel:
        waiting = [channel.stream_unary(INFER).future(silent()) for _ in range(40)]
        assert ask(address, token, INFER) == b"x"
        for one in waiting:
            assert one.code() == grpc.StatusCode.UNAUTHENTICATED
        over.set()


def test_tokens_are_not_shown(tokens: AppTokens) -> None:
    """Neither credentials nor refusals print one."""
    token = tokens.add("camera", ["infer"])
    assert token not in repr(Credentials(token=token))
    with pytest.raises(UnauthenticatedError) as refused:
        Guard(tokens=tokens).check(INFER, [("authorization", f"Bearer {token}x")])
    assert token not in str(refused.value)
