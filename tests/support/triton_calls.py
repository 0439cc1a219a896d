"""Calls of the stock Triton client, made to a real Triton once (see ``triton_record``) and to our
door in each test run: what is answered must be the same.

A call gives a value that fits into JSON, or raises what the client raises.
"""

from __future__ import annotations

import base64
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

ANSWERS = Path(__file__).with_name("triton_answers.json")
WAIT_S = 30.0
SLOW_S = 0.2
LABELS = ("cat", "dog", "bird", "fish")
# Each model gives y = factor * x; ``slow`` sleeps x[0] seconds first, ``batched`` takes rows.
TYPES = {"text": "BYTES", "half": "FP16", "long": "INT64", "bool": "BOOL", "small": "INT8"}
FLOATS = {"linear": 2.0, "named": 1.0, "batched": 1.0, "slow": 1.0}


@dataclass
class Peer:
    """A server. ``version`` is that of its models, ``other`` one that it does not have;
    ``prefix`` begins the names of shared memory that it takes."""

    client: triton.InferenceServerClient
    stub: service_pb2_grpc.GRPCInferenceServiceStub
    version: str
    other: str
    prefix: str


@dataclass(frozen=True)
class Case:
    """``says`` must be in the message of every server, whatever else is there."""

    call: Callable[[Peer], object]
    says: tuple[str, ...] = ()


@contextmanager
def peer(address: str, *, version: str, other: str, prefix: str) -> Iterator[Peer]:
    with (
        triton.InferenceServerClient(address) as client,
        grpc.insecure_channel(address) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        yield Peer(client, stub, version, other, prefix)


def observe(case: Case, server: Peer) -> dict[str, object]:
    """What a call came to: the status, and the answer or the message."""
    try:
        return {"status": "OK", "answer": case.call(server)}
    except triton.InferenceServerException as error:
        status, message = error.status() or "", error.message() or ""
    except grpc.RpcError as error:
        status, message = str(error.code()), error.details()
    return {"status": status.rpartition(".")[2], "message": message}


def unspaced(text: str) -> str:
    """As messages are compared: Triton writes lists without spaces."""
    return text.replace(" ", "").lower()


# -- requests ----------------------------------------------------------------------------


def tensor(array: np.ndarray[Any, Any], datatype: str = "FP32", name: str = "x") -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def rows(count: int = 1, columns: int = 4) -> Any:
    return tensor(np.arange(count * columns, dtype=np.float32).reshape(count, columns))


def fixed(values: list[float], model: str = "named") -> Callable[[int], Callable[[Peer], object]]:
    array = np.array(values, np.float32).reshape(-1, 4)

    def classes(count: int) -> Callable[[Peer], object]:
        wanted = [triton.InferRequestedOutput("y", class_count=count)]
        return lambda to: answer(to.client.infer(model, [tensor(array)], outputs=wanted))

    return classes


def infer(model: str = "linear", inputs: list[Any] | None = None, **options: Any) -> Any:
    given = [rows()] if inputs is None else inputs
    return lambda to: answer(to.client.infer(model, given, **options))


def raw(
    *data: bytes,
    model: str = "linear",
    shape: tuple[int, ...] = (1, 4),
    datatype: str = "FP32",
    change: Callable[[pb.ModelInferRequest], object] = lambda request: None,
) -> Callable[[Peer], object]:
    """A request that the client's own classes cannot be talked into."""
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=data)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    change(request)
    return lambda to: plain(to.stub.ModelInfer(request, timeout=WAIT_S))


def parameter(name: str, **value: Any) -> Callable[[Peer], object]:
    return raw(bytes(16), change=lambda request: _set(request.parameters[name], value))


def _set(target: Any, values: Mapping[str, Any]) -> None:
    for field, value in values.items():
        setattr(target, field, value)


# -- answers -----------------------------------------------------------------------------


def answer(result: triton.InferResult) -> dict[str, Any]:
    return plain(result.get_response())


def plain(message: Any) -> dict[str, Any]:
    """A message as JSON, without what names the server's own version."""
    made: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    made.pop("model_version", None)
    return made


def metadata(to: Peer, model: str, version: str = "") -> dict[str, Any]:
    got = plain(to.client.get_model_metadata(model, version))
    return {name: got[name] for name in ("name", "inputs", "outputs")}


def shapes_of_config(to: Peer, model: str) -> dict[str, Any]:
    got = plain(to.client.get_model_config(model).config)
    return {name: got.get(name) for name in ("name", "input", "output", "max_batch_size")}


def counted(to: Peer) -> dict[str, int]:
    """What three successes and a failure add to the statistics of a model."""

    def now() -> Any:
        return to.client.get_inference_statistics("long", to.version).model_stats[0]

    before = now()
    numbers = tensor(np.arange(3), "INT64")
    for _ in range(3):
        to.client.infer("long", [numbers])
    with suppress(triton.InferenceServerException):
        to.client.infer("long", [])
    end_s = time.monotonic() + WAIT_S
    while now().inference_count < before.inference_count + 3 and time.monotonic() < end_s:
        time.sleep(0.01)  # Triton counts after it has answered
    after = now()
    phases = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    return {
        "inferences": after.inference_count - before.inference_count,
        "executions": after.execution_count - before.execution_count,
        "batch_sizes": [one.batch_size for one in after.batch_stats],  # type: ignore[dict-item]
        **{
            name: getattr(after.inference_stats, name).count
            - getattr(before.inference_stats, name).count
            for name in phases
        },
    }


def index(to: Peer, *, ready: bool = False) -> list[list[str]]:
    got = to.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=ready), timeout=WAIT_S)
    return sorted([one.name, one.state] for one in got.models)


def by_callback(to: Peer) -> object:
    """An asynchronous call."""
    got: queue.Queue[Any] = queue.Queue()
    to.client.async_infer("linear", [rows()], lambda result, error: got.put((result, error)))
    result, error = got.get(timeout=WAIT_S)
    if error is not None:
        raise error
    return answer(result)


def cancelled(to: Peer) -> object:
    """A call that its client gives up; the next one is answered."""
    got: queue.Queue[Any] = queue.Queue()
    call = to.client.async_infer(
        "slow", [sleep(SLOW_S)], lambda result, error: got.put((result, error))
    )
    call.cancel()
    _, error = got.get(timeout=WAIT_S)
    return [error.status(), answer(to.client.infer("linear", [rows()]))]


def sleep(seconds: float) -> Any:
    return tensor(np.full((1, 4), seconds, np.float32))


def queue_is_full(to: Peer) -> object:
    """One that runs, and more than the two that may wait."""
    over: queue.Queue[Any] = queue.Queue()
    asked = 6
    for _ in range(asked):
        to.client.async_infer("slow", [sleep(SLOW_S)], lambda result, error: over.put(error))
    errors = [over.get(timeout=WAIT_S) for _ in range(asked)]
    raise next(error for error in errors if error is not None)


# -- streams -----------------------------------------------------------------------------


def stream(*requests: Mapping[str, Any]) -> Callable[[Peer], object]:
    """What the stock client is told about each request, in order: one after the other."""

    def call(to: Peer) -> object:
        got: queue.Queue[Any] = queue.Queue()
        told = []
        to.client.start_stream(lambda result, error: got.put((result, error)))
        try:
            for options in requests:
                given = {"model_name": "linear", "inputs": [rows()], **options}
                to.client.async_stream_infer(**given)
                result, error = got.get(timeout=WAIT_S)
                told.append("error" if error is not None else answer(result))
        finally:
            to.client.stop_stream()
        return told

    return call


def stream_error(to: Peer) -> object:
    """The message itself of an error in the stream: the id, and no answer."""
    request = pb.ModelInferRequest(model_name="linear", id="r1", raw_input_contents=[bytes(15)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    (told,) = to.stub.ModelStreamInfer(iter([request]), timeout=WAIT_S)
    assert told.error_message
    return plain(told.infer_response)


# -- shared memory -----------------------------------------------------------------------


@contextmanager
def shared(to: Peer, *, size_bytes: int = 8192, register: bool = True) -> Iterator[Any]:
    """An object of the client with the numbers 0, 1, ... in it, and nothing registered after."""
    key = f"{to.prefix}numbers"
    handle = shm.create_shared_memory_region("r", key, size_bytes)
    try:
        shm.set_shared_memory_region(handle, [np.arange(16, dtype=np.float32)])
        if register:
            to.client.register_system_shared_memory("r", key, size_bytes)
        yield handle
    finally:
        unregister_all(to)
        shm.destroy_shared_memory_region(handle)


def unregister_all(to: Peer) -> None:
    """Triton lets go of a region a moment after it has answered."""
    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            to.client.unregister_system_shared_memory()
            return
        except triton.InferenceServerException:  # noqa: PERF203 - it is a loop of retries
            if time.monotonic() > end_s:
                raise
            time.sleep(0.01)


def in_region(size_bytes: int = 16, offset: int = 0, name: str = "r", **options: Any) -> Any:
    made = triton.InferInput("x", options.get("shape", [1, 4]), options.get("datatype", "FP32"))
    made.set_shared_memory(name, size_bytes, offset=offset)
    return made


def out_region(size_bytes: int = 16, offset: int = 4096, name: str = "r") -> Any:
    made = triton.InferRequestedOutput("y")
    made.set_shared_memory(name, size_bytes, offset=offset)
    return made


def with_region(call: Callable[[Peer], object]) -> Callable[[Peer], object]:
    def around(to: Peer) -> object:
        with shared(to):
            return call(to)

    return around


def register(
    name: str = "q",
    key: str = "numbers",
    size_bytes: int = 64,
    offset: int = 0,
    *,
    absolute: bool = False,
) -> Callable[[Peer], object]:
    """Registers one more beside the object of ``shared``."""

    def call(to: Peer) -> object:
        with shared(to, register=False):
            whole = key if absolute else f"{to.prefix}{key}"
            to.client.register_system_shared_memory(name, whole, size_bytes, offset=offset)
            return regions(to)

    return call


def regions(to: Peer, name: str = "") -> object:
    got = to.client.get_system_shared_memory_status(name).regions
    return {
        one.name: [one.key.removeprefix("/").removeprefix(to.prefix), one.offset, one.byte_size]
        for one in got.values()
    }


def output_in_region(to: Peer) -> object:
    """The answer, and what lies in the object afterwards."""
    with shared(to) as handle:
        told = answer(to.client.infer("linear", [in_region()], outputs=[out_region()]))
        return [told, shm.get_contents_as_numpy(handle, np.float32, [4], offset=4096).tolist()]


def one_output_there(to: Peer) -> object:
    """An output in shared memory that is larger than needed; the next request has it in the
    answer."""
    with shared(to):
        there = answer(to.client.infer("linear", [rows()], outputs=[out_region(64)]))
        here = answer(to.client.infer("linear", [in_region(offset=16)]))
        return [there, here]


def texts_in_region(to: Peer) -> object:
    with shared(to) as handle:
        handle._mpsm_handle.buf[:11] = b"\2\0\0\0ab\1\0\0\0c"
        given = in_region(11, shape=[2], datatype="BYTES")
        told = answer(to.client.infer("text", [given], outputs=[out_region(32)]))
        left = bytes(handle._mpsm_handle.buf[4096 : 4096 + 11])
        return [told, base64.b64encode(left).decode()]


def unregister_in_use(to: Peer) -> object:
    """While a request has its input there."""
    with shared(to) as handle:
        shm.set_shared_memory_region(handle, [np.full(4, SLOW_S, np.float32)])
        end_s = time.monotonic() + WAIT_S
        while time.monotonic() < end_s:
            over = threading.Event()
            to.client.async_infer("slow", [in_region()], lambda result, error: over.set())  # noqa: B023
            time.sleep(SLOW_S / 2)
            try:
                to.client.unregister_system_shared_memory("r")
            finally:
                over.wait(WAIT_S)
            # The request was not there yet, or no longer: a busy machine.
            to.client.register_system_shared_memory("r", f"{to.prefix}numbers", 8192)
        return "was never in use"


def unregistered(to: Peer) -> object:
    """Known, twice, and one that never was."""
    with shared(to):
        for name in ("r", "r", "never"):
            to.client.unregister_system_shared_memory(name)
        return regions(to)


def region_parameter(**values: Mapping[str, Any]) -> Callable[[Peer], object]:
    """An input in shared memory with a parameter of the wrong kind."""

    def change(request: pb.ModelInferRequest) -> None:
        given = request.inputs[0].parameters
        given["shared_memory_region"].string_param = "r"
        given["shared_memory_byte_size"].int64_param = 16
        for name, value in values.items():
            given[f"shared_memory_{name}"].Clear()
            _set(given[f"shared_memory_{name}"], value)

    return with_region(raw(change=change))


def size_missing(request: pb.ModelInferRequest) -> None:
    request.inputs[0].parameters["shared_memory_region"].string_param = "r"


def region_and_contents(request: pb.ModelInferRequest) -> None:
    given = request.inputs[0]
    given.parameters["shared_memory_region"].string_param = "r"
    given.parameters["shared_memory_byte_size"].int64_param = 16
    given.contents.fp32_contents.extend([1, 2, 3, 4])


def typed(field: str, values: list[Any]) -> Callable[[pb.ModelInferRequest], object]:
    return lambda request: getattr(request.inputs[0].contents, field).extend(values)


def want(model_output: str = "y", **value: Any) -> Callable[[pb.ModelInferRequest], object]:
    return lambda request: _set(
        request.outputs.add(name=model_output).parameters["classification"], value
    )
