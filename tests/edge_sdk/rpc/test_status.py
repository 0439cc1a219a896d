"""An error raised on one side of a call is the same error on the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from edge_sdk.base import (
    BusyError,
    ConflictError,
    DeltaError,
    EdgeError,
    FormatError,
    NotFoundError,
    ProofError,
    RefusedError,
    ResourceError,
    TrustError,
    UnavailableError,
    UsageError,
    WrongSourceError,
)
from edge_sdk.rpc import Credentials, open_channel, retry_after_s, to_status, typed_errors

FAMILIES = [BusyError, ConflictError, DeltaError, FormatError, NotFoundError, ProofError, RefusedError,
            ResourceError, TrustError, UnavailableError, UsageError, WrongSourceError]  # fmt: skip

RETRY = error_details_pb2.RetryInfo.DESCRIPTOR
Act = Callable[[grpc.ServicerContext], NoReturn]


class Failing(grpc.GenericRpcHandler):
    """A server whose every call fails as ``act`` says."""

    act: Act

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        if call.method == "/edge.test/Unknown":
            return None
        if call.method == "/edge.test/Stream":
            return grpc.unary_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(lambda _, context: self.act(context))

    def _stream(self, _: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        self.act(context)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[grpc.Channel, Failing]]:
    handler = Failing()
    served = grpc.server(ThreadPoolExecutor(2))
    served.add_generic_rpc_handlers((handler,))
    served.add_insecure_port(f"unix:{tmp_path}/s")
    served.start()
    with open_channel(f"unix:{tmp_path}/s", Credentials()) as channel:
        yield channel, handler
    served.stop(None).wait()


def raising(error: BaseException) -> Act:
    def act(context: grpc.ServicerContext) -> NoReturn:
        context.abort_with_status(rpc_status.to_status(to_status(error)))
        raise AssertionError

    return act


def aborting(code: grpc.StatusCode, details: str) -> Act:
    def act(context: grpc.ServicerContext) -> NoReturn:
        context.abort(code, details)
        raise AssertionError

    return act


def call(channel: grpc.Channel, method: str = "Unary") -> EdgeError:
    with pytest.raises(EdgeError) as failed, typed_errors("the distributor"):
        channel.unary_unary(f"/edge.test/{method}")(b"", timeout=10)
    return failed.value


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_cross_the_wire(
    server: tuple[grpc.Channel, Failing], family: type[EdgeError]
) -> None:
    """Class and message arrive as they were raised; facts arrive as text."""
    channel, handler = server
    handler.act = raising(family("model.onnx: no such thing", chunk=3, path="a"))
    error = call(channel)
    assert type(error) is family
    assert error.message == "model.onnx: no such thing"
    assert error.facts == {"chunk": "3", "path": "a"}


def test_error_in_the_middle_of_a_stream(server: tuple[grpc.Channel, Failing]) -> None:
    """What came before the error is there, then the same typed error is raised."""
    channel, handler = server
    handler.act = raising(ProofError("differs"))
    got = []
    with pytest.raises(ProofError, match="differs"), typed_errors("the distributor"):
        for one in channel.unary_stream("/edge.test/Stream")(b"", timeout=10):
            got.append(one)  # noqa: PERF402  # what came before the error counts
    assert got == [b"first"]


def test_defects_show_nothing_of_themselves(server: tuple[grpc.Channel, Failing]) -> None:
    """An unexpected exception's text, which may hold secrets, does not cross the wire."""
    channel, handler = server
    handler.act = raising(KeyError("password=hunter2"))
    error = call(channel)
    assert "hunter2" not in error.message
    assert type(error) is EdgeError
    assert error.exit_code == 1


class StrangeError(RefusedError):
    """A refusal that only one side knows."""


def test_unknown_reasons_fall_back_to_their_family(
    server: tuple[grpc.Channel, Failing],
) -> None:
    """A reason of a newer release becomes the family that its status stands for."""
    channel, handler = server
    status = to_status(StrangeError("not now"))
    detail = status.details[0]
    detail.value = detail.value.replace(b"StrangeError", b"NewFangError")

    def act(context: grpc.ServicerContext) -> NoReturn:
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError

    handler.act = act
    error = call(channel)
    assert type(error) is RefusedError
    assert error.message == "not now"


@pytest.mark.parametrize(
    ("code", "family"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, UnavailableError),
        (grpc.StatusCode.ABORTED, UnavailableError),
        (grpc.StatusCode.CANCELLED, UnavailableError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceError),
        (grpc.StatusCode.INVALID_ARGUMENT, UsageError),
        (grpc.StatusCode.PERMISSION_DENIED, TrustError),
        (grpc.StatusCode.UNAUTHENTICATED, TrustError),
        (grpc.StatusCode.FAILED_PRECONDITION, RefusedError),
        (grpc.StatusCode.NOT_FOUND, NotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, ConflictError),
        (grpc.StatusCode.DATA_LOSS, ProofError),
        (grpc.StatusCode.UNKNOWN, EdgeError),
    ],
)
def test_plain_statuses_become_typed(
    server: tuple[grpc.Channel, Failing], code: grpc.StatusCode, family: type[EdgeError]
) -> None:
    """A status without our details, from a proxy or a stranger, becomes its family."""
    channel, handler = server
    handler.act = aborting(code, "says the proxy")
    error = call(channel)
    assert type(error) is family
    assert "the distributor" in error.message


def test_unknown_methods_are_told(server: tuple[grpc.Channel, Failing]) -> None:
    """A peer too old for a call is named as such."""
    error = call(server[0], "Unknown")
    assert type(error) is UsageError
    assert "does not offer" in error.message


def test_unreachable_peers_are_told(tmp_path: Path) -> None:
    """Nobody at the address: an UnavailableError that names the peer."""
    with open_channel(f"unix:{tmp_path}/nobody", Credentials()) as channel:
        error = call(channel)
    assert type(error) is UnavailableError
    assert "cannot reach the distributor" in error.message


def test_details_of_strangers_are_ignored(server: tuple[grpc.Channel, Failing]) -> None:
    """ErrorInfo of another domain does not choose our class."""
    channel, handler = server
    status = to_status(ProofError("differs"))
    detail = status.details[0]
    detail.value = detail.value.replace(b"edge-model-sdk", b"edge-other-sdk")

    def act(context: grpc.ServicerContext) -> NoReturn:
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError

    handler.act = act
    assert "the distributor" in call(channel).message


def test_facts_may_have_any_name(server: tuple[grpc.Channel, Failing]) -> None:
    """Also those that are Python's own words for an error."""
    channel, handler = server
    facts = {"message": "m", "self": "s", "no name": "n"}

    def act(context: grpc.ServicerContext) -> NoReturn:
        context.abort_with_status(rpc_status.to_status(to_status(ProofError("differs", **facts))))
        raise AssertionError

    handler.act = act
    error = call(channel)
    assert (type(error), error.message, error.facts) == (ProofError, "differs", facts)


def test_details_that_are_no_messages_are_ignored(server: tuple[grpc.Channel, Failing]) -> None:
    """A peer that fails with nonsense has failed, and nothing more."""
    channel, handler = server
    name = "grpc-status-details-bin"
    status = to_status(ProofError("differs"))
    status.details[0].value = b"\xff\xff"
    for data in (b"\xff\xff", status.SerializeToString()):

        def act(context: grpc.ServicerContext, data: bytes = data) -> NoReturn:
            context.set_trailing_metadata(((name, data),))
            context.abort(grpc.StatusCode.NOT_FOUND, "gone")
            raise AssertionError

        handler.act = act
        assert type(call(channel)) is NotFoundError


def test_other_exceptions_pass_through() -> None:
    """Only gRPC errors are turned; ours and Python's stay what they are."""
    with pytest.raises(ZeroDivisionError), typed_errors("x"):
        raise ZeroDivisionError
    with pytest.raises(DeltaError), typed_errors("x"):
        raise DeltaError("d")


def test_when_to_ask_again_travels(server: tuple[grpc.Channel, Failing]) -> None:
    """A busy peer's time is in google.rpc.RetryInfo, for clients that are not ours as well."""
    channel, handler = server

    def busy(context: grpc.ServicerContext) -> NoReturn:
        error = BusyError("too many", retry_after_s=2.5)
        context.abort_with_status(rpc_status.to_status(to_status(error)))
        raise AssertionError

    handler.act = busy
    call = channel.unary_unary("/edge.test/Call")
    with pytest.raises(BusyError) as failed, typed_errors("the peer"):
        call(b"", timeout=10)
    assert retry_after_s(failed.value) == 2.5
    with pytest.raises(grpc.RpcError) as raw:
        call(b"", timeout=10)
    assert raw.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(raw.value)
    assert status is not None
    waits = [error_details_pb2.RetryInfo() for one in status.details if one.Is(RETRY)]
    for one in status.details:
        if one.Is(RETRY):
            assert one.Unpack(waits[0])
    assert [one.retry_delay.ToMilliseconds() for one in waits] == [2500]


def test_a_strangers_busy_is_ours(server: tuple[grpc.Channel, Failing]) -> None:
    """A proxy that says RESOURCE_EXHAUSTED with RetryInfo is busy, not out of memory."""
    channel, handler = server

    def busy(context: grpc.ServicerContext) -> NoReturn:
        status = status_pb2.Status(code=8, message="slow down")
        detail = error_details_pb2.RetryInfo()
        detail.retry_delay.FromSeconds(3)
        status.details.add().Pack(detail)
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError

    handler.act = busy
    with pytest.raises(BusyError) as failed, typed_errors("the peer"):
        channel.unary_unary("/edge.test/Call")(b"", timeout=10)
    assert retry_after_s(failed.value) == 3.0
