"""The Open Inference Protocol as a stock client sees it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto

from device_agent.config import ModelConfig
from device_agent.serving.doors import describe
from edge_sdk.base import ConflictError, RefusedError
from edge_sdk.client import VersionNotActiveError
from edge_sdk.protos import inference_v2_pb2 as pb
from edge_sdk.rpc import from_rpc_error
from tests.support import onnx_models
from tests.support.processes import wait_for
from tests.support.serving_door import Serving, serving

MODELS = {
    "team/linear": onnx_models.linear(2.0),
    "team/nonzero": onnx_models.nonzero(),
    "team/text": onnx_models.identity(TensorProto.STRING),
    "team/half": onnx_models.identity(TensorProto.FLOAT16),
    "team/long": onnx_models.identity(TensorProto.INT64),
    "team/bool": onnx_models.identity(TensorProto.BOOL),
    "team/brain": onnx_models.identity(TensorProto.BFLOAT16),
    "team/small": onnx_models.identity(TensorProto.INT8),
    "team/gather": onnx_models.finish(
        [onnx.helper.make_node("Gather", ["table", "x"], ["y"])],
        [onnx_models.value("x", TensorProto.INT64, ["n"])],
        [onnx_models.value("y", TensorProto.FLOAT, ["n"])],
        [onnx.numpy_helper.from_array(np.arange(3, dtype=np.float32), "table")],
    ),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    made = serving(tmp_path_factory.mktemp("models"), MODELS)
    made.door.open("127.0.0.1:0")
    yield made
    made.door.close()


@pytest.fixture
def client(served: Serving) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.door.address) as made:
        yield made


@pytest.fixture
def channel(served: Serving) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.door.address) as made:
        yield made


def tensor(array: np.ndarray[Any, Any], datatype: str, name: str = "x") -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def ones(rows: int = 1, columns: int = 4) -> triton.InferInput:
    return tensor(np.ones((rows, columns), np.float32), "FP32")


def raw_infer(channel: grpc.Channel, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    call = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        request_serializer=pb.ModelInferRequest.SerializeToString,
        response_deserializer=pb.ModelInferResponse.FromString,
    )
    return call(request, timeout=20)


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    """Live, ready, and signatures with -1 where a size is free."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("team/linear")
    assert client.is_model_ready("team/linear", "1.0.0")
    assert not client.is_model_ready("team/linear", "9.0.0")
    assert not client.is_model_ready("team/unknown")
    assert client.get_server_metadata().name == "edge-model-sdk"
    metadata = client.get_model_metadata("team/linear")
    assert metadata.versions == ["1.0.0"]
    assert metadata.platform == "onnxruntime_onnx"
    assert (metadata.inputs[0].name, metadata.inputs[0].datatype) == ("x", "FP32")
    assert list(metadata.inputs[0].shape) == [-1, 4]
    assert client.get_model_metadata("team/text").outputs[0].datatype == "BYTES"


def test_configuration(client: triton.InferenceServerClient) -> None:
    """ModelConfig names types and whole shapes, and which artifact this is."""
    config = client.get_model_config("team/linear", as_json=True)["config"]
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["input"][0]["dims"] == ["-1", "4"]
    assert config["backend"] == "onnxruntime"
    assert len(config["parameters"]["artifact"]["string_value"]) == 64
    text = client.get_model_config("team/text", as_json=True)["config"]
    assert text["output"][0]["data_type"] == "TYPE_STRING"


@pytest.mark.parametrize(
    ("model", "datatype", "array"),
    [
        ("team/half", "FP16", np.array([1.5, -2, 65504], np.float16)),
        ("team/long", "INT64", np.array([2**62, -1, 0], np.int64)),
        ("team/bool", "BOOL", np.array([True, False])),
        ("team/small", "INT8", np.array([-128, 127], np.int8)),
        ("team/text", "BYTES", np.array([b"", "grüß".encode(), b"a\n"], object)),
    ],
)
def test_values_pass_unchanged(
    client: triton.InferenceServerClient, model: str, datatype: str, array: np.ndarray[Any, Any]
) -> None:
    """Each datatype goes in and comes out as it was."""
    for _ in range(3):  # first run, prebound runs
        result = client.infer(model, [tensor(array, datatype)])
        got = result.as_numpy("y")
        assert got.dtype == array.dtype
        assert (got == array).all()
        assert result.get_response().model_version == "1.0.0"


def test_bfloat16_passes_unchanged(client: triton.InferenceServerClient) -> None:
    """BF16 as the stock client gives it, with ml_dtypes."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([1, -2.5, 3e38], ml_dtypes.bfloat16)
    got = client.infer("team/brain", [tensor(array, "BF16")]).as_numpy("y")
    assert (got == array).all()


def test_shapes_that_depend_on_data(client: triton.InferenceServerClient) -> None:
    """An output whose shape changes with the values is answered right each time."""
    for count in (6, 0, 3, 6):
        x = np.zeros((3, 2), np.float32)
        x.ravel()[:count] = 1
        result = client.infer("team/nonzero", [tensor(x, "FP32")])
        assert (result.as_numpy("where") == np.stack(np.nonzero(x))).all()
        assert (result.as_numpy("twice") == 2 * x).all()


def test_only_wanted_outputs_in_the_order_asked(client: triton.InferenceServerClient) -> None:
    """Requested outputs come alone, in order, with the id echoed."""
    wanted = [triton.InferRequestedOutput(name) for name in ("twice", "where")]
    x = np.ones((1, 2), np.float32)
    answer = client.infer("team/nonzero", [tensor(x, "FP32")], outputs=wanted, request_id="r7")
    assert [one.name for one in answer.get_response().outputs] == ["twice", "where"]
    assert answer.get_response().id == "r7"
    one = client.infer("team/nonzero", [tensor(x, "FP32")], outputs=wanted[:1]).get_response()
    assert [output.name for output in one.outputs] == ["twice"]
    assert len(one.raw_output_contents) == 1


def test_typed_contents_are_read(channel: grpc.Channel) -> None:
    """A request without raw contents is answered the same, in raw contents."""
    request = pb.ModelInferRequest(model_name="team/linear")
    given = request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    given.contents.fp32_contents.extend([1, 2, 3, 4])
    response = raw_infer(channel, request)
    assert np.frombuffer(response.raw_output_contents[0], "<f4").tolist() == [2, 4, 6, 8]
    assert not response.outputs[0].HasField("contents")
    text = pb.ModelInferRequest(model_name="team/text")
    given = text.inputs.add(name="x", datatype="BYTES", shape=[2])
    given.contents.bytes_contents.extend([b"a", b"bc"])
    assert raw_infer(channel, text).raw_output_contents[0] == b"\1\0\0\0a\2\0\0\0bc"


def test_any_byte_is_a_bool(channel: grpc.Channel) -> None:
    """Bytes other than 0 and 1 arrive as true, not as undefined behaviour."""
    request = pb.ModelInferRequest(model_name="team/bool", raw_input_contents=[b"\x00\x02\xff\x01"])
    request.inputs.add(name="x", datatype="BOOL", shape=[4])
    assert raw_infer(channel, request).raw_output_contents[0] == b"\x00\x01\x01\x01"


@pytest.mark.parametrize(
    ("model", "inputs", "options", "status", "message"),
    [
        ("team/unknown", [ones()], {}, "NOT_FOUND", "'team/unknown' is not found"),
        ("team/linear", [ones()], {"model_version": "2.0.0"}, "NOT_FOUND", "version 2.0.0"),
        ("team/linear", [ones()], {"model_version": "latest"}, "INVALID_ARGUMENT", "latest"),
        ("team/linear", [], {}, "INVALID_ARGUMENT", "expected inputs ['x']"),
        ("team/linear", [ones(), ones()], {}, "INVALID_ARGUMENT", "twice"),
        (
            "team/linear",
            [ones(), tensor(np.ones(1, np.float32), "FP32", "z")],
            {},
            "INVALID_ARGUMENT",
            "unexpected input 'z'",
        ),
        (
            "team/linear",
            [tensor(np.ones((1, 4)), "FP64")],
            {},
            "INVALID_ARGUMENT",
            "expects float32",
        ),
        ("team/linear", [ones(1, 5)], {}, "INVALID_ARGUMENT", "expected [-1, 4], got [1, 5]"),
        (
            "team/linear",
            [ones()],
            {"outputs": [triton.InferRequestedOutput("q")]},
            "INVALID_ARGUMENT",
            "unexpected output 'q'",
        ),
        (
            "team/gather",
            [tensor(np.array([9], np.int64), "INT64")],
            {},
            "INTERNAL",
            "ONNX Runtime failed",
        ),
        (
            "team/text",
            [tensor(np.array([b"\xff"], object), "BYTES")],
            {},
            "INVALID_ARGUMENT",
            "UTF-8",
        ),
    ],
)
def test_statuses(
    client: triton.InferenceServerClient,
    model: str,
    inputs: list[triton.InferInput],
    options: dict[str, Any],
    status: str,
    message: str,
) -> None:
    """Every kind of wrong request has the status that stock servers give, and says what is wrong."""
    with pytest.raises(triton.InferenceServerException) as refused:
        client.infer(model, inputs, **options)
    assert refused.value.status() == f"StatusCode.{status}"
    assert message in refused.value.message()


def wrong_requests() -> dict[str, tuple[pb.ModelInferRequest, str]]:
    """Requests that the stock client cannot be talked into."""
    both = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
    both.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.append(1)
    count = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[b"", b""])
    count.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    short = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(15)])
    short.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    negative = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
    negative.inputs.add(name="x", datatype="FP32", shape=[-1, 4])
    huge = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
    huge.inputs.add(name="x", datatype="FP32", shape=[1 << 62, 4])
    half = pb.ModelInferRequest(model_name="team/half")
    half.inputs.add(name="x", datatype="FP16", shape=[1]).contents.fp32_contents.append(1)
    kind = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
    kind.inputs.add(name="x", datatype="FP31", shape=[1, 4])
    fewer = pb.ModelInferRequest(model_name="team/linear")
    fewer.inputs.add(name="x", datatype="FP32", shape=[1, 4]).contents.fp32_contents.append(1)
    wide = pb.ModelInferRequest(model_name="team/small")
    wide.inputs.add(name="x", datatype="INT8", shape=[1]).contents.int_contents.append(300)
    cut = pb.ModelInferRequest(model_name="team/text", raw_input_contents=[b"\x09\0\0\0a"])
    cut.inputs.add(name="x", datatype="BYTES", shape=[1])
    parameter = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
    parameter.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    parameter.parameters["triton_unheard"].bool_param = True
    return {
        "raw and typed": (both, "together"),
        "too many raw": (count, "expected 1"),
        "short raw": (short, "byte size 15"),
        "negative shape": (negative, "got [-1, 4]"),
        "huge shape": (huge, "byte size 16"),
        "half typed": (half, "raw_input_contents only"),
        "unknown type": (kind, "FP31"),
        "too few typed": (fewer, "expects 4"),
        "value out of range": (wide, "outside of int8"),
        "cut off text": (cut, "cut off"),
        "unknown parameter": (parameter, "triton_unheard"),
    }


@pytest.mark.parametrize("name", wrong_requests())
def test_wrong_requests_are_invalid_arguments(channel: grpc.Channel, name: str) -> None:
    """Contradictory or impossible tensors are INVALID_ARGUMENT, and the next request works."""
    request, message = wrong_requests()[name]
    with pytest.raises(grpc.RpcError) as refused:
        raw_infer(channel, request)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in refused.value.details()
    good = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
    good.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    assert raw_infer(channel, good).raw_output_contents[0] == bytes(16)


def test_a_demanded_version_is_a_typed_error(channel: grpc.Channel) -> None:
    """The status carries which version was demanded and which is active."""
    request = pb.ModelInferRequest(
        model_name="team/linear", model_version="2.0.0", raw_input_contents=[bytes(16)]
    )
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with pytest.raises(grpc.RpcError) as refused:
        raw_infer(channel, request)
    typed = from_rpc_error(refused.value, peer="test")
    assert isinstance(typed, VersionNotActiveError)
    assert typed.facts["active"] == "1.0.0"
    assert typed.facts["version"] == "2.0.0"


def test_a_request_may_name_its_patience(client: triton.InferenceServerClient) -> None:
    """The timeout parameter and a priority are accepted."""
    answer = client.infer("team/linear", [ones()], timeout=2_000_000, priority=1)
    assert (answer.as_numpy("y") == 2).all()


def test_statistics_count_by_phase(served: Serving, client: triton.InferenceServerClient) -> None:
    """Successes, failures and phases are counted per version; batch size 1 is what ran."""
    served.serve("team/counted", onnx_models.linear(1.0), "3.1.4")
    for _ in range(4):
        client.infer("team/counted", [ones()])
    with pytest.raises(triton.InferenceServerException):
        client.infer("team/counted", [ones(1, 7)])
    statistics = client.get_inference_statistics("team/counted").model_stats[0]
    assert (statistics.name, statistics.version) == ("team/counted", "3.1.4")
    assert statistics.inference_count == statistics.execution_count == 4
    assert statistics.inference_stats.success.count == 4
    assert statistics.inference_stats.fail.count == 1
    assert statistics.inference_stats.compute_infer.ns > 0
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert statistics.inference_stats.success.ns == sum(
        getattr(statistics.inference_stats, part).ns for part in parts
    )
    assert [(one.batch_size, one.compute_infer.count) for one in statistics.batch_stats] == [(1, 4)]
    assert statistics.last_inference > 1_600_000_000_000
    everything = client.get_inference_statistics().model_stats
    assert {"team/counted", "team/linear"} <= {one.name for one in everything}
    with pytest.raises(triton.InferenceServerException) as unknown:
        client.get_inference_statistics("team/unknown")
    assert unknown.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_repository(client: triton.InferenceServerClient) -> None:
    """The index names what is loaded; loading and unloading are the assignment's decision."""
    index = client.get_model_repository_index().models
    assert ("team/linear", "1.0.0", "READY") in [(m.name, m.version, m.state) for m in index]
    client.load_model("team/linear")
    client.unload_model("team/unknown")
    for act, status in (
        (lambda: client.load_model("team/unknown"), "INTERNAL"),
        (lambda: client.load_model("team/linear", config="{}"), "FAILED_PRECONDITION"),
        (lambda: client.unload_model("team/linear"), "FAILED_PRECONDITION"),
    ):
        with pytest.raises(triton.InferenceServerException) as refused:
            act()
        assert refused.value.status() == f"StatusCode.{status}"
    assert client.is_model_ready("team/linear")


def test_the_index_keeps_what_is_gone(
    served: Serving, client: triton.InferenceServerClient
) -> None:
    """An unloaded model is UNAVAILABLE, and not among those that are ready."""
    served.table.remove(served.serve("team/gone", onnx_models.linear(1.0)))
    found = {one.name: one for one in client.get_model_repository_index().models}
    assert (found["team/gone"].state, found["team/gone"].reason) == ("UNAVAILABLE", "unloaded")
    assert found["team/linear"].state == "READY"
    ready = served.door._index(pb.RepositoryIndexRequest(ready=True), None)  # type: ignore[arg-type]
    assert "team/gone" not in {one.name for one in ready.models}


def test_configuration_is_what_is_served(served: Serving) -> None:
    """Bounds, priorities, states and the processor, as the device's settings say."""
    plain = describe.config(served.table.find("team/linear", ""), ModelConfig()).config
    assert plain.max_batch_size == 0
    queue = plain.dynamic_batching
    assert (queue.priority_levels, queue.default_priority_level) == (3, 2)
    assert queue.default_queue_policy.max_queue_size == ModelConfig().queue_max
    assert not plain.response_cache.enable
    assert plain.instance_group[0].kind == pb.ModelInstanceGroup.KIND_CPU
    busy = ModelConfig(batch_max=4, runs_max=3, priority=1, providers=("CUDAExecutionProvider",))
    shown = describe.config(served.table.find("team/linear", ""), busy).config
    assert (shown.max_batch_size, list(shown.input[0].dims)) == (4, [4])
    assert shown.dynamic_batching.default_priority_level == 1
    assert shown.instance_group[0].count == 3
    assert shown.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    fixed = describe.config(served.table.find("team/nonzero", ""), busy).config
    assert fixed.max_batch_size == 0 or list(fixed.output[0].dims) != [-1, 2]
    states = ModelConfig(states={"x": "y"})
    kept = describe.config(served.table.find("team/linear", ""), states).config
    assert kept.WhichOneof("scheduling_choice") == "sequence_batching"
    (state,) = kept.sequence_batching.state
    assert (state.input_name, state.output_name, list(state.dims)) == ("x", "y", [-1, 4])


def test_what_is_not_offered_is_unimplemented(client: triton.InferenceServerClient) -> None:
    """Settings of logs and traces, and shared memory where it is off, answer UNIMPLEMENTED, as
    the protocol wants; the list of extensions says the same."""
    for act in (
        *(client.get_system_shared_memory_status, client.get_trace_settings),
        client.get_log_settings,
    ):
        with pytest.raises(triton.InferenceServerException) as refused:
            act()
        assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
    offered = client.get_server_metadata().extensions
    assert {"classification", "statistics", "schedule_policy"} <= set(offered)
    assert not {"system_shared_memory", "trace", "logging"} & set(offered)


def test_a_stream_lives_on_after_an_error(client: triton.InferenceServerClient) -> None:
    """Answers come in order, marked final; an error is in the band with the request's id."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        client.async_stream_infer("team/linear", [ones()], request_id="a")
        client.async_stream_infer("team/linear", [ones(1, 3)], request_id="b")
        client.async_stream_infer("team/linear", [ones(2)], request_id="c")
        first, wrong, last = (answers.get(timeout=20) for _ in range(3))
    finally:
        client.stop_stream()
    assert first[0].get_response().id == "a"
    assert first[0].get_response().parameters["triton_final_response"].bool_param
    assert "expected [-1, 4], got [1, 3]" in str(wrong[1])
    assert last[0].get_response().id == "c"
    assert last[0].as_numpy("y").shape == (2, 4)


def test_streams_do_not_take_every_thread(served: Serving) -> None:
    """The ninth stream is refused, and single requests are still answered."""
    with grpc.insecure_channel(served.door.address) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        request = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
        request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        ends: list[queue.Queue[Any]] = [queue.Queue() for _ in range(9)]
        streams = []
        for end in ends:
            end.put(request)
            streams.append(call(iter(end.get, None), timeout=30))
        try:
            for stream in streams[:8]:
                assert next(stream).infer_response.raw_output_contents[0] == bytes(16)
            with pytest.raises(grpc.RpcError) as refused:
                next(streams[8])
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert raw_infer(channel, request).raw_output_contents[0] == bytes(16)
        finally:
            for end in ends:
                end.put(None)
            for stream in streams[:8]:
                assert list(stream) == []


def test_a_cancelled_stream_gives_its_place_back(served: Serving) -> None:
    """Eight streams that their clients give up, each in the middle: eight others find room."""
    with grpc.insecure_channel(served.door.address) as channel:
        call = channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )
        request = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
        request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
        for _ in range(2):
            ends: list[queue.Queue[Any]] = [queue.Queue() for _ in range(8)]
            streams = []
            for end in ends:
                end.put(request)
                streams.append(call(iter(end.get, None), timeout=30))
                assert next(streams[-1]).infer_response.raw_output_contents[0] == bytes(16)
            for stream, end in zip(streams, ends, strict=True):
                stream.cancel()
                end.put(None)
            wait_for(lambda: served.door._streams.count == 0, "all streams to end")


def test_those_that_wait_hide_nobody(served: Serving) -> None:
    """While a model's whole queue waits for its turn, others' calls are answered, one more of
    its own is refused at once, and in the end all are answered."""
    scheduler = served.dispatcher.scheduler
    line, other = scheduler.queue("team/linear"), scheduler.queue("team/busy")
    request = pb.ModelInferRequest(model_name="team/linear", raw_input_contents=[bytes(16)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    request.parameters["priority"].uint64_param = 3
    assert scheduler.enter(other, 1)
    assert scheduler.enter(other, 1)
    waiting: list[Any] = []
    with grpc.insecure_channel(served.door.address) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        try:
            waiting = [call.future(request, timeout=60) for _ in range(line.waiting_max)]
            wait_for(lambda: line.waiting == line.waiting_max, "a full queue")
            with triton.InferenceServerClient(served.door.address) as client:
                assert client.is_server_live()
                assert client.get_model_metadata("team/long").name == "team/long"
            with pytest.raises(grpc.RpcError) as refused:
                call(request, timeout=60)
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "Exceeds maximum queue size" in refused.value.details()
        finally:
            for _ in range(2):
                scheduler.leave(other, 1, 0)
        for one in waiting:
            assert one.result().raw_output_contents[0] == bytes(16)


def test_a_taken_address_is_a_conflict(served: Serving) -> None:
    """A second door on the port is refused instead of sharing it."""
    with pytest.raises(ConflictError):
        serving(served.folder).door.open(served.door.address)


def test_other_machines_are_not_let_in(served: Serving) -> None:
    """An address that is not this machine needs the operator's word."""
    with pytest.raises(RefusedError):
        serving(served.folder).door.open("0.0.0.0:0")


def test_a_request_waits_while_slots_load(tmp_path: Path) -> None:
    """Right after a start a request waits for its model, at most as long as it has time."""
    starting = serving(tmp_path, ready=False)
    starting.door.open(f"unix:{tmp_path}/i.sock")
    try:
        with triton.InferenceServerClient(starting.door.address) as client:
            assert client.is_server_live()
            assert not client.is_server_ready()
            assert not client.is_model_ready("team/linear")
            with pytest.raises(triton.InferenceServerException) as early:
                client.infer("team/linear", [ones()], timeout=50_000)
            assert early.value.status() == "StatusCode.UNAVAILABLE"
            answers: queue.Queue[Any] = queue.Queue()
            client.async_infer(
                "team/linear", [ones()], lambda result, error: answers.put((result, error))
            )
            starting.serve("team/linear", onnx_models.linear(2.0))
            starting.table.set_ready()
            result, error = answers.get(timeout=20)
            assert error is None
            assert (result.as_numpy("y") == 2).all()
    finally:
        starting.door.close()


def test_a_live_unix_socket_is_not_taken_away(tmp_path: Path) -> None:
    """A second door on the socket is refused; after the first has closed it may open."""
    address = f"unix:{tmp_path}/i.sock"
    first, second = serving(tmp_path), serving(tmp_path)
    first.door.open(address)
    with pytest.raises(ConflictError):
        second.door.open(address)
    first.door.close()
    second.door.open(address)
    second.door.close()


def test_no_slab_is_left_in_use(served: Serving, client: triton.InferenceServerClient) -> None:
    """After any mixture of requests, good and wrong, only the idle slots hold memory."""
    before = served.pool.statistics().slabs_used
    for turn in range(30):
        x = np.zeros((3, 2), np.float32)
        x.ravel()[: turn % 7] = 1
        client.infer("team/nonzero", [tensor(x, "FP32")])
        with pytest.raises(triton.InferenceServerException):
            client.infer("team/gather", [tensor(np.array([9], np.int64), "INT64")])
    assert served.pool.statistics().slabs_used - before <= 4
