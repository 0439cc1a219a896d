"""The inference door over TCP asks for tokens, and gives way to nobody who says nothing."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton

from device_agent.access import AppTokens, Guard, Silent
from device_agent.access.threads import heard
from edge_sdk.base import UnauthenticatedError
from edge_sdk.client import connect
from edge_sdk.protos import inference_v2_pb2 as pb
from tests.support import onnx_models
from tests.support.processes import wait_for
from tests.support.serving_door import Serving, serving

MODEL = "team/linear"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
ONES = np.ones((1, 4), np.float32)


@pytest.fixture
def tokens(tmp_path: Path) -> AppTokens:
    return AppTokens(tmp_path)


@pytest.fixture
def served(tmp_path: Path, tokens: AppTokens) -> Iterator[Serving]:
    made = serving(tmp_path / "models", {MODEL: onnx_models.linear(2.0)})
    made.door.open("127.0.0.1:0", guard=Guard(tokens=tokens))
    yield made
    made.door.close()


def _given() -> list[triton.InferInput]:
    tensor = triton.InferInput("x", [1, 4], "FP32")
    tensor.set_data_from_numpy(ONES)
    return [tensor]


def test_the_stock_client_sends_a_header(served: Serving, tokens: AppTokens) -> None:
    """With the app's token it is answered; without, or with another role's, it is not."""
    shown = {"authorization": f"Bearer {tokens.add('camera', ['infer'])}"}
    watches = {"authorization": f"Bearer {tokens.add('wall', ['observe'])}"}
    with triton.InferenceServerClient(served.door.address) as client:
        assert client.is_server_ready(headers=shown)
        assert client.infer(MODEL, _given(), headers=shown).as_numpy("y") is not None
        assert client.is_server_ready(headers=watches)
        for headers, status in ((None, "UNAUTHENTICATED"), (watches, "PERMISSION_DENIED")):
            with pytest.raises(triton.InferenceServerException) as refused:
                client.infer(MODEL, _given(), headers=headers)
            assert refused.value.status() == f"StatusCode.{status}"


def test_our_client_takes_it_from_the_environment(
    served: Serving, tokens: AppTokens, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By argument, variable or file; without, the error says how to get one."""
    token = tokens.add("camera", ["infer"])
    for name in ("EDGE_APP_TOKEN", "EDGE_APP_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with connect(inference=served.door.address, token=token) as client:
        assert client.model(MODEL).infer({"x": ONES}).version == "1.0.0"
    with (
        connect(inference=served.door.address) as client,
        pytest.raises(UnauthenticatedError, match="edge-agent apps add"),
    ):
        client.model(MODEL).infer({"x": ONES})
    (tmp_path / "token").write_text(token + "\n")
    monkeypatch.setenv("EDGE_APP_TOKEN_FILE", str(tmp_path / "token"))
    with connect(inference=served.door.address) as client:
        assert client.model(MODEL).infer({"x": ONES}).version == "1.0.0"


def _request() -> bytes:
    return pb.ModelInferRequest(
        model_name=MODEL,
        inputs=[pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])],
        raw_input_contents=[ONES.tobytes()],
    ).SerializeToString()


def test_a_stream_ends_with_its_app(served: Serving, tokens: AppTokens) -> None:
    """A removed app's stream answers nothing more."""
    token = tokens.add("camera", ["infer"])
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with grpc.insecure_channel(served.door.address) as channel:
        stream = channel.stream_stream(STREAM)(
            iter(requests.get, None), metadata=[("authorization", f"Bearer {token}")], timeout=30
        )
        requests.put(_request())
        assert next(stream)
        tokens.remove("camera")
        requests.put(_request())
        with pytest.raises(grpc.RpcError) as ended:
            next(stream)
        assert ended.value.code() == grpc.StatusCode.UNAUTHENTICATED
        requests.put(None)


def test_one_app_keeps_no_other_out(served: Serving, tokens: AppTokens) -> None:
    """Calls that say nothing, begun again as they end, by one that may only look on."""
    watcher = [("authorization", f"Bearer {tokens.add('wall', ['observe'])}")]
    camera = [("authorization", f"Bearer {tokens.add('camera', ['infer'])}")]
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    with grpc.insecure_channel(served.door.address) as channel:
        live = channel.stream_unary("/inference.GRPCInferenceService/ServerLive")

        def begin(_ended: object = None) -> None:
            if not over.is_set():
                call = live.future(nothing(), metadata=watcher)
                refused.append(call)
                call.add_done_callback(begin)

        refused: list[grpc.Call] = []
        for _ in range(200):
            begin()
        wait_for(lambda: served.door._threads.silent >= 100, "most threads to be taken")
        with grpc.insecure_channel(served.door.address, [("apart", 1)]) as other:
            ask = other.unary_unary(INFER)
            assert all(ask(_request(), metadata=camera, timeout=20) for _ in range(5))
        over.set()
        for call in refused:
            call.cancel()


def test_who_has_no_token_takes_no_thread(served: Serving, tokens: AppTokens) -> None:
    """It is told so, though every thread is at work; one app has so many calls and no more."""
    watcher = [("authorization", f"Bearer {tokens.add('wall', ['observe'])}")]
    threads = served.door._threads
    threads._each_max, go = 2, threading.Event()
    for _ in range(128):
        threads.submit(lambda: (heard(), go.wait(30)))
    with grpc.insecure_channel(served.door.address) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        with pytest.raises(grpc.RpcError) as refused:
            live(b"", timeout=20)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        waiting = [live.future(b"", metadata=watcher, timeout=30) for _ in range(2)]
        wait_for(lambda: sum(threads._calls.values()) == 2, "two calls")
        with pytest.raises(grpc.RpcError) as refused:
            live(b"", metadata=watcher, timeout=20)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        go.set()
        assert all(one.result() for one in waiting)


def test_a_request_that_comes_after_its_app_was_removed(served: Serving, tokens: AppTokens) -> None:
    """Its call was begun before."""
    token = tokens.add("camera", ["infer"])
    requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with grpc.insecure_channel(served.door.address) as channel:
        call = channel.stream_unary(INFER).future(
            iter(requests.get, None), metadata=[("authorization", f"Bearer {token}")], timeout=30
        )
        wait_for(lambda: served.door._threads.silent == 1, "the call")
        tokens.remove("camera")
        begun_s = served.door._threads._silent()[0].begun_s
        wait_for(lambda: time.monotonic() - begun_s > 0.06, "it to be late")
        requests.put(_request())
        requests.put(None)
        assert call.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def open_door(tmp_path: Path) -> Iterator[Serving]:
    made = serving(tmp_path / "models", {MODEL: onnx_models.linear(2.0)})
    made.door._threads._patience_s = 0.1
    made.door._silent_streams = Silent(0.1)
    made.door.open(f"unix:{tmp_path}/inference.sock")
    yield made
    made.door.close()


def test_calls_that_say_nothing_take_no_threads(open_door: Serving) -> None:
    """As many as there are threads, begun and left so: a request is answered all the same."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(30)
        yield from ()

    with grpc.insecure_channel(open_door.door.address) as channel:
        waiting = [channel.stream_unary(INFER).future(nothing()) for _ in range(140)]

        def all_taken() -> bool:
            """All at once, or so slowly that the first had to give way already."""
            return open_door.door._threads.silent >= 128 or any(one.done() for one in waiting)

        wait_for(all_taken, "every thread to be taken")
        assert channel.unary_unary(INFER)(_request(), timeout=20)
        over.set()
        for one in waiting:
            one.cancel()


def test_silent_streams_give_their_place(open_door: Serving) -> None:
    """Eight that say nothing keep the places until a ninth comes: it hears when to try again."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(30)
        yield from ()

    with grpc.insecure_channel(open_door.door.address) as channel:
        call = channel.stream_stream(STREAM)
        silent = [call(nothing(), timeout=30) for _ in range(8)]
        wait_for(lambda: open_door.door._silent_streams.count == 8, "eight streams")

        def answered() -> bool:
            try:
                return bool(next(call(iter([_request()]), timeout=5)))
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                return False

        wait_for(answered, "an answer")
        over.set()
        for stream in silent:
            stream.cancel()


def test_only_tensors_are_large(open_door: Serving) -> None:
    """A large message of any other method is refused; one with tensors comes in."""
    with grpc.insecure_channel(open_door.door.address) as channel:
        for name in ("ModelMetadata", "RepositoryIndex", "ServerLive"):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(f"/inference.GRPCInferenceService/{name}")(
                    bytes(70_000), timeout=20
                )
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(INFER)(b"\xff" * (1 << 20), timeout=20)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
