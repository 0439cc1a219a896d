"""The response cache as clients of the protocol meet it: real gRPC, real threads, real runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto

from device_agent.serving.cache import ResponseCache
from device_agent.serving.request import GivenTensor
from edge_sdk.base import UnavailableError
from edge_sdk.engines import EngineError
from edge_sdk.protos import inference_v2_pb2 as pb
from tests.support import onnx_models
from tests.support.processes import wait_for
from tests.support.serving_door import Serving, serving

MODEL = "team/slow"
MODELS = {
    MODEL: onnx_models.mlp((512, 512), repeats=40),
    "team/plain": onnx_models.linear(2.0),
    "team/nonzero": onnx_models.nonzero(),
    "team/text": onnx_models.identity(TensorProto.STRING),
    "team/half": onnx_models.identity(TensorProto.FLOAT16),
    "team/bool": onnx_models.identity(TensorProto.BOOL),
}


def caching(folder: Path, models: Mapping[str, onnx.ModelProto]) -> Serving:
    caches = {name: ResponseCache(1 << 22) for name in models if name != "team/plain"}
    return serving(folder, models, caches=caches)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    made = caching(tmp_path_factory.mktemp("models"), MODELS)
    made.door.open("127.0.0.1:0")
    yield made
    made.door.close()


@pytest.fixture
def channel(served: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.door.address) as made:
        yield made


def request_of(array: np.ndarray[Any, Any], model: str = MODEL) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[array.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return request


def infer(channel: grpc.Channel) -> grpc.UnaryUnaryMultiCallable[Any, Any]:
    return channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )


def slow_input(seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal((64, 512)).astype(np.float32)


def runs(made: Serving, model: str = MODEL) -> int:
    return made.table.find(model, "").statistics.snapshot().count["compute_infer"]


def followers(made: Serving, model: str = MODEL) -> int:
    cache = made.table.find(model, "").cache
    assert cache is not None
    with cache._lock:
        return sum(flight.followers for flight in cache._flights.values())


def test_sixteen_identical_requests_run_once(served: Serving, channel: grpc.Channel) -> None:
    """Sixteen calls at once on a slow model are one execution and one answer; so says the
    standard's statistics call, and a later request is answered from memory."""
    before = runs(served)
    call, request = infer(channel), request_of(slow_input(1))
    futures = [call.future(request, timeout=60) for _ in range(16)]
    answers = {future.result().raw_output_contents[0] for future in futures}
    assert len(answers) == 1
    assert runs(served) == before + 1
    assert call(request, timeout=60).raw_output_contents[0] in answers
    assert runs(served) == before + 1
    with triton.InferenceServerClient(served.door.address) as client:
        stats = client.get_inference_statistics(MODEL).model_stats[0]
        assert stats.inference_stats.cache_hit.count == 16
        assert stats.inference_stats.cache_miss.count == stats.execution_count == runs(served)
        assert stats.inference_stats.success.count == 16 + stats.execution_count
        assert stats.inference_count == stats.execution_count
        assert client.get_model_config(MODEL).config.response_cache.enable
        assert not client.get_model_config("team/plain").config.HasField("response_cache")


def test_without_a_cache_each_request_runs(served: Serving, channel: grpc.Channel) -> None:
    """The cache is for the models that were given one."""
    before = runs(served, "team/plain")
    for _ in range(3):
        infer(channel)(request_of(np.ones((1, 4), np.float32), "team/plain"), timeout=60)
    assert runs(served, "team/plain") == before + 3


def test_a_caller_that_hangs_up_frees_its_thread(served: Serving, channel: grpc.Channel) -> None:
    """A cancelled follower leaves while the run goes on, also one of a stream; the leader and
    the others have their answer."""
    generation = served.table.find(MODEL, "")
    held = [generation.slots.take([(64, 512)]) for _ in range(2)]
    served.take_all_turns()  # nothing runs from here on
    try:
        call, request = infer(channel), request_of(slow_input(2))
        leader = call.future(request, timeout=60)
        cache = generation.cache
        assert cache is not None
        wait_for(lambda: len(cache._flights) == 1, "the leader")
        stays, goes = call.future(request, timeout=60), call.future(request, timeout=60)
        stream = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )(iter([request]), timeout=60)
        wait_for(lambda: followers(served) == 3, "three followers")
        goes.cancel()
        wait_for(lambda: followers(served) == 2, "the cancelled one to leave")
        stream.cancel()
        wait_for(lambda: followers(served) == 1, "the stream to leave")
    finally:
        served.free_all_turns()
        for slot in held:
            generation.slots.put_back(slot)
    assert leader.result() == stays.result()


def test_a_deadline_is_its_own_caller_s(served: Serving, channel: grpc.Channel) -> None:
    """A leader whose time is over before its turn comes fails alone: a follower with more time
    runs."""
    served.take_all_turns()
    before = runs(served)
    try:
        call, request = infer(channel), request_of(slow_input(3))
        hasty = request_of(slow_input(3))
        hasty.parameters["timeout"].int64_param = 300_000  # microseconds
        leader = call.future(hasty, timeout=60)
        cache = served.table.find(MODEL, "").cache
        assert cache is not None
        wait_for(lambda: len(cache._flights) == 1, "the leader")
        rest = [call.future(request, timeout=60) for _ in range(3)]
        assert leader.code() is grpc.StatusCode.UNAVAILABLE
        wait_for(lambda: followers(served) == 2, "a new leader")
    finally:
        served.free_all_turns()
    assert len({future.result().raw_output_contents[0] for future in rest}) == 1
    assert runs(served) == before + 1


def test_engine_errors_are_not_kept(
    served: Serving, channel: grpc.Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run that failed, the same request runs again and is answered."""
    generation = served.table.find(MODEL, "")
    request = request_of(slow_input(4))
    take = generation.slots.take
    broken = threading.Event()

    def fails(shapes: Any) -> Any:
        if not broken.is_set():
            broken.set()
            raise EngineError("as ordered")
        return take(shapes)

    monkeypatch.setattr(generation.slots, "take", fails)
    with pytest.raises(grpc.RpcError):
        infer(channel)(request, timeout=60)
    assert infer(channel)(request, timeout=60).raw_output_contents


def by_array(
    served: Serving, model: str, dtype: str, array: np.ndarray[Any, Any]
) -> dict[str, Any]:
    tensor = GivenTensor(name="x", dtype=dtype, shape=array.shape, data=array)
    with served.dispatcher.infer(model, "", [tensor]) as answer:
        return {name: one.copy() for name, one in answer.outputs.items()}


def alone(served: Serving, model: str, array: np.ndarray[Any, Any]) -> Mapping[str, Any]:
    """What the engine gives, past dispatcher and cache."""
    return served.table.find(model, "").session.run({"x": array}, {})


numbers = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.just(2)),
    elements=st.floats(width=32) | st.sampled_from([0.0, -0.0]),
)


@given(array=numbers)
@settings(max_examples=60, deadline=None)
def test_a_hit_is_byte_for_byte_what_a_run_gives(
    served: Serving, array: np.ndarray[Any, Any]
) -> None:
    """Every value, NaN and -0.0 included, and shapes that depend on the data: run, hit and the
    bare engine agree in type, shape and bytes; a hit did not run."""
    wanted = alone(served, "team/nonzero", array)
    first = by_array(served, "team/nonzero", "float32", array)
    before = runs(served, "team/nonzero")
    again = by_array(served, "team/nonzero", "float32", array)
    assert runs(served, "team/nonzero") == before
    for got in (first, again):
        for name, one in wanted.items():
            assert (got[name].dtype, got[name].shape) == (one.dtype, one.shape)
            assert got[name].tobytes() == one.tobytes()


@pytest.mark.parametrize(
    ("model", "dtype", "array"),
    [
        ("team/text", "string", np.array(["", "ä", "x" * 3000], object)),
        ("team/half", "float16", np.arange(3000, dtype=np.float16)),
        ("team/bool", "bool", np.array([True, False])),
    ],
)
def test_every_kind_of_tensor(
    served: Serving, model: str, dtype: str, array: np.ndarray[Any, Any]
) -> None:
    """Texts, halves and truth values come from the cache as from a run."""
    before = runs(served, model)
    got = [by_array(served, model, dtype, array) for _ in range(2)]
    assert runs(served, model) == before + 1
    for one in got:
        assert one["y"].tolist() == array.tolist()


def test_memory_that_changes_under_a_request_poisons_nothing(served: Serving) -> None:
    """What is looked up, run and kept is the input as it was first seen: an application that
    writes to its buffer meanwhile gets no other's request answered wrongly."""
    array = np.full((1, 2), 3.0, np.float32)
    cache = served.table.find("team/nonzero", "").cache
    assert cache is not None
    answer = cache.answer

    def meddle(key: Any, run: Any, **rest: Any) -> Any:
        array[:] = 99.0
        return answer(key, run, **rest)

    cache.answer = meddle  # type: ignore[method-assign]
    try:
        first = by_array(served, "team/nonzero", "float32", array)
    finally:
        del cache.answer
    assert first["twice"].tolist() == [[6.0, 6.0]]
    again = by_array(served, "team/nonzero", "float32", np.full((1, 2), 3.0, np.float32))
    assert again["twice"].tolist() == [[6.0, 6.0]]


def test_an_answer_survives_the_next_runs(served: Serving) -> None:
    """An answer lies outside of the buffers that later requests use."""
    tensor = GivenTensor(
        name="x", dtype="float32", shape=(1, 2), data=np.array([[1, 2]], np.float32)
    )
    with served.dispatcher.infer("team/nonzero", "", [tensor]) as answer:
        for value in range(10, 14):
            by_array(served, "team/nonzero", "float32", np.full((1, 2), value, np.float32))
        assert answer.outputs["twice"].tolist() == [[2.0, 4.0]]
        assert list(answer.outputs) == ["where", "twice"]
    with served.dispatcher.infer("team/nonzero", "", [tensor], wanted=["twice"]) as answer:
        assert list(answer.outputs) == ["twice"]
    with served.dispatcher.infer("team/nonzero", "", [tensor], wanted=["twice", "where"]) as answer:
        assert list(answer.outputs) == ["twice", "where"]


def test_no_answer_of_the_version_before(tmp_path: Path) -> None:
    """Through 60 switches under load of identical requests: a request that begins after a
    switch never has an answer of the version before it."""
    made = caching(tmp_path, {MODEL: onnx_models.linear(1.0)})
    generations = [
        made.table.find(MODEL, ""),
        *(made.load(MODEL, onnx_models.linear(n), f"{n}.0.0") for n in (2.0, 3.0)),
    ]
    cache = generations[0].cache
    for generation in generations[1:]:
        generation.cache = cache
    tensor = GivenTensor(
        name="x", dtype="float32", shape=(1, 4), data=np.ones((1, 4), np.float32).tobytes()
    )
    factor = {id(one): float(n) for n, one in enumerate(generations, start=1)}
    begun = [1.0]  # of each switch the factor, before it is made ...
    done = [1]  # ... and after it, how many there were
    wrong: list[object] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            first = done[0]
            with made.dispatcher.infer(MODEL, "", [tensor], timeout_s=30) as answer:
                got = float(answer.outputs["y"][0, 0])
            allowed = begun[first - 1 :]
            if got not in allowed:
                wrong.append((got, allowed))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(60):
        generation = generations[(turn + 1) % 3]
        hits = cache.use().memory_hits  # type: ignore[union-attr]
        begun.append(factor[id(generation)])
        made.table.switch(generation)
        done[0] += 1
        wait_for(lambda hits=hits: cache.use().memory_hits > hits + 5, "hits of the new version")  # type: ignore[misc,union-attr]
    over.set()
    for thread in threads:
        thread.join(timeout=30)
    assert wrong == []
    made.table.remove(made.table.find(MODEL, ""))
    assert cache is not None
    assert cache.use().entries == 0


def test_a_follower_s_patience(served: Serving) -> None:
    """One that would wait longer than it may for a turn is UNAVAILABLE, as without a cache."""
    served.take_all_turns()
    array = slow_input(5)
    tensor = GivenTensor(name="x", dtype="float32", shape=array.shape, data=array.tobytes())
    got: list[float] = []

    def lead() -> None:
        with served.dispatcher.infer(MODEL, "", [tensor], timeout_s=60) as answer:
            got.append(float(answer.outputs["y"][0, 0]))

    leader = threading.Thread(target=lead)
    leader.start()
    try:
        cache = served.table.find(MODEL, "").cache
        assert cache is not None
        wait_for(lambda: len(cache._flights) == 1, "the leader")
        begin_s = time.monotonic()
        with (
            pytest.raises(UnavailableError, match="timeout expired"),
            served.dispatcher.infer(MODEL, "", [tensor], timeout_s=0.05),
        ):
            pass
        assert 0.05 <= time.monotonic() - begin_s < 20
    finally:
        served.free_all_turns()
    leader.join(timeout=30)
    assert len(got) == 1
