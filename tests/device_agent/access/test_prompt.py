"""A call that was begun and says nothing keeps a thread only while nobody wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import cast

import grpc
import pytest

from device_agent.access import LOCAL_LIMITS, DoorThreads, Prompt, Streams
from edge_sdk.base import BusyError, FormatError, ResourceError
from edge_sdk.protos import agent_v1_pb2 as wire
from edge_sdk.rpc import MethodLimits, typed_errors
from tests.support.processes import wait_for

STATUS, EVENTS = "/edge.agent.v1.AgentService/Status", "/edge.agent.v1.AgentService/Events"
PEER = "the agent"


def _handlers() -> dict[str, grpc.RpcMethodHandler]:
    return {
        "Status": grpc.unary_unary_rpc_method_handler(
            lambda one, _: wire.StatusResponse(device=f"{one.ByteSize()}"),
            request_deserializer=wire.RollbackRequest.FromString,
            response_serializer=wire.StatusResponse.SerializeToString,
        ),
        "Events": grpc.unary_stream_rpc_method_handler(
            lambda one, _: iter([wire.Event(number=one.after), wire.Event(number=one.after + 1)]),
            request_deserializer=wire.EventsRequest.FromString,
            response_serializer=wire.Event.SerializeToString,
        ),
    }


@contextmanager
def server(count: int, patience_s: float) -> Iterator[tuple[grpc.Channel, DoorThreads]]:
    threads = DoorThreads(count, name="test", patience_s=patience_s)
    one = grpc.server(cast(ThreadPoolExecutor, threads), interceptors=[Prompt()])
    handlers = grpc.method_handlers_generic_handler("edge.agent.v1.AgentService", _handlers())
    one.add_generic_rpc_handlers((handlers,))
    port = one.add_insecure_port("127.0.0.1:0")
    one.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, threads
    one.stop(None).wait()
    threads.close()


@pytest.fixture
def silence() -> Iterator[Callable[[], Iterator[bytes]]]:
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    yield nothing
    over.set()


def test_calls_that_say_nothing_give_way(silence: Callable[[], Iterator[bytes]]) -> None:
    """Three times as many as there are threads; whoever says what it wants is answered."""
    with server(4, 0.1) as (channel, threads):
        waiting = [channel.stream_unary(STATUS).future(silence()) for _ in range(12)]
        wait_for(lambda: threads.silent == 4, "all threads to be taken")
        for _ in range(3):
            channel.unary_unary(STATUS)(b"", timeout=20)
        ended = [one for one in waiting if one.done()]
        assert len(ended) >= 9  # all but those that nobody waits for now
        assert all(one.code() == grpc.StatusCode.CANCELLED for one in ended)
        for one in waiting:
            one.cancel()
        wait_for(lambda: threads.silent == 0, "nobody to be waited for")


def test_while_there_are_threads_nobody_is_hurried(
    silence: Callable[[], Iterator[bytes]],
) -> None:
    """A slow caller keeps its call where others find a thread."""
    with server(4, 0.0) as (channel, threads):
        slow = channel.stream_unary(STATUS).future(silence())
        wait_for(lambda: threads.silent == 1, "the slow caller")
        for _ in range(5):
            channel.unary_unary(STATUS)(b"", timeout=20)
        assert not slow.done()
        slow.cancel()


def test_requests_are_as_before() -> None:
    """Answers and streams, for clients that send one request."""
    with server(2, 1.0) as (channel, _):
        data = wire.RollbackRequest(model="x" * 100).SerializeToString()
        told = channel.unary_unary(STATUS, response_deserializer=wire.StatusResponse.FromString)
        assert told(data, timeout=20).device == str(len(data))
        events = channel.unary_stream(EVENTS, response_deserializer=wire.Event.FromString)
        request = wire.EventsRequest(after=6).SerializeToString()
        assert [one.number for one in events(request, timeout=20)] == [6, 7]


def test_what_is_too_large_or_no_message() -> None:
    """Neither reaches the service: the first is not even parsed."""
    with server(2, 1.0) as (channel, _):
        for call in (
            channel.unary_unary(STATUS),
            lambda *a, **k: list(channel.unary_stream(EVENTS)(*a, **k)),
        ):
            with pytest.raises(ResourceError, match="65536 are allowed"), typed_errors(PEER):
                call(b"\xff" * ((64 << 10) + 1), timeout=20)
            with pytest.raises(FormatError), typed_errors(PEER):
                call(b"\xff" * 9, timeout=20)
        with pytest.raises(grpc.RpcError) as refused:
            channel.stream_unary(STATUS)(iter(()), timeout=20)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED  # as gRPC says it


class Shown:
    """A call's context, as far as places look at it."""

    def __init__(self, token: str = "") -> None:
        self._token = token

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self._token}")] if self._token else []


def test_one_app_does_not_take_all_streams() -> None:
    """Of one app there are so many, of all so many; one that ends makes room."""
    streams = Streams(4, 2)
    with streams.place(Shown("a")):
        with streams.place(Shown("a")):
            with pytest.raises(BusyError, match="of this app"), streams.place(Shown("a")):
                pass
            with (
                streams.place(Shown("b")),
                streams.place(Shown()),
                pytest.raises(BusyError, match="4 streams"),
                streams.place(Shown("c")),
            ):
                pass
        with streams.place(Shown("a")):
            pass


def test_every_method_has_limits() -> None:
    """Only tensors are large."""
    large = {name for name, one in LOCAL_LIMITS.items() if one.message_bytes > 64 << 10}
    assert {name.rpartition("/")[2] for name in large} == {"ModelInfer", "ModelStreamInfer"}
    assert all(isinstance(one, MethodLimits) for one in LOCAL_LIMITS.values())
