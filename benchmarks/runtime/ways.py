"""Ways to one answer: each a call without arguments, for a client that waits for it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.runtime import client_child, echo_child, models, processes
from benchmarks.runtime.models import Array
from edge_sdk.client import connect

Call = Callable[[], Any]

_WARM = 30


@dataclass(slots=True)
class Taken:
    """Of one way in one round: microseconds of each call, and its server's CPU for all."""

    calls_us: list[float] = field(default_factory=list)
    cpu_us: float = 0.0

    @property
    def cpu_us_per_call(self) -> float:
        return self.cpu_us / len(self.calls_us)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """``pid``: of the server, whose CPU is counted with all processes below it; 0: none."""

    call: Call
    pid: int = 0
    calls: int = 1000


Round = dict[str, Taken]
Places = dict[str, list[Round]]


def sample(
    ways: Mapping[str, Way],
    *,
    rounds: int,
    pieces: int = 4,
    at: Mapping[str, tuple[set[int], set[int]]] | None = None,
) -> Places:
    """All ways in turns, at each place (this process's cores, the servers').

    A round of a way is cut into ``pieces`` between those of the others, so that a neighbour's
    noise falls on all of them.
    """
    taken: Places = {}
    servers = {way.pid for way in ways.values() if way.pid}
    try:
        for _ in range(rounds):
            for place, (ours, theirs) in (at or processes.places()).items():
                processes.pin(os.getpid(), ours)
                for pid in servers:
                    processes.pin(pid, theirs)
                one: Round = {name: Taken() for name in ways}
                for _ in range(pieces):
                    for name, way in ways.items():
                        _piece(way, one[name], way.calls // pieces)
                taken.setdefault(place, []).append(one)
    finally:
        for pid in (os.getpid(), *servers):
            processes.pin(pid, processes.all_cores())
    return taken


def _piece(way: Way, taken: Taken, calls: int) -> None:
    call = way.call
    for _ in range(_WARM):
        call()
    before_s = processes.cpu_s(way.pid) if way.pid else 0.0
    for _ in range(calls):
        began_ns = time.perf_counter_ns()
        call()
        taken.calls_us.append((time.perf_counter_ns() - began_ns) / 1000)
    if way.pid:
        taken.cpu_us += 1e6 * (processes.cpu_s(way.pid) - before_s)


def check(name: str, call: Call, expected: Array) -> None:
    """A way that answers something else measures something else. Raises: RuntimeError."""
    got = call()
    if got.shape != expected.shape or not np.allclose(got, expected, rtol=1e-3, atol=1e-3):
        raise RuntimeError(f"{name} answers {got!r}, not {expected!r}")


@contextlib.contextmanager
def socket_floor(folder: Path) -> Iterator[tuple[Call, int]]:
    """64 bytes to another process and back."""
    path = str(folder / "echo.sock")
    with (
        processes.child(processes.module("echo_child", path)) as (echo, _),
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer,
    ):
        peer.connect(path)
        packet, buffer = bytes(echo_child.PACKET_BYTES), bytearray(echo_child.PACKET_BYTES)

        def call() -> None:
            peer.send(packet)
            peer.recv_into(buffer)

        yield call, echo.pid


@contextlib.contextmanager
def ours(address: str, model: str, given: Array, *, fast_lane: bool = True) -> Iterator[Call]:
    """By ``edge_sdk.client``."""
    with connect(inference=address, fast_lane=fast_lane) as client:
        asked = client.model(model)
        inputs = {"x": given}
        yield lambda: asked.infer(inputs).outputs["y"]


@contextlib.contextmanager
def prepared(address: str, model: str, given: Array) -> Iterator[Call]:
    """The same with a tensor that lies where the agent reads it already, and views of outputs."""
    with connect(inference=address) as client, client.model(model).prepare({"x": given}) as asked:
        yield lambda: asked.run().outputs["y"]


@contextlib.contextmanager
def stock(address: str, model: str, given: Array) -> Iterator[Call]:
    """By the stock ``tritonclient`` over gRPC, new data in each request."""
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(address)
    tensor = triton.InferInput("x", list(given.shape), "FP32")
    shown = client_child.headers()

    def call() -> Any:
        tensor.set_data_from_numpy(given)
        return client.infer(model, [tensor], headers=shown).as_numpy("y")

    try:
        yield call
    finally:
        client.close()


@contextlib.contextmanager
def http_json(address: str, given: Array) -> Iterator[Call]:
    """By HTTP and JSON over one connection, as LitServe's clients do."""
    ask = client_child.http_json({"address": address}, given)
    yield lambda: ask()[1]


@contextlib.contextmanager
def stock_shared(
    address: str, model: str, given: Array, answer_bytes: int, *, prefix: str = ""
) -> Iterator[Call]:
    """By the stock client, tensors in system shared memory: new data is written each time."""
    import tritonclient.grpc as triton
    from tritonclient.utils import shared_memory

    client = triton.InferenceServerClient(address)
    key = f"/{prefix}bench-{os.getpid()}"
    into = shared_memory.create_shared_memory_region("into", f"{key}-in", given.nbytes)
    out = shared_memory.create_shared_memory_region("out", f"{key}-out", answer_bytes)
    try:
        client.register_system_shared_memory("into", f"{key}-in", given.nbytes)
        client.register_system_shared_memory("out", f"{key}-out", answer_bytes)
        tensor = triton.InferInput("x", list(given.shape), "FP32")
        tensor.set_shared_memory("into", given.nbytes)
        wanted = triton.InferRequestedOutput("y")
        wanted.set_shared_memory("out", answer_bytes)

        def call() -> Any:
            shared_memory.set_shared_memory_region(into, [given])
            answer = client.infer(model, [tensor], outputs=[wanted])
            shape = list(answer.get_output("y").shape)
            return shared_memory.get_contents_as_numpy(out, np.float32, shape)

        yield call
        client.unregister_system_shared_memory()
    finally:
        client.close()
        shared_memory.destroy_shared_memory_region(into)
        shared_memory.destroy_shared_memory_region(out)


def prebound(path: Path, given: Array) -> tuple[Call, Array]:
    """ONNX Runtime alone, in this process, its tensors bound once; and what it answers."""
    session = models.bare(path)
    import onnxruntime

    (answer,) = session.run(None, {"x": given})
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(given))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(answer.copy()))
    return lambda: session.run_with_iobinding(binding), answer


def by_round(rounds: Sequence[Round], way: str) -> list[list[float]]:
    return [one[way].calls_us for one in rounds]


def cpu_by_round(rounds: Sequence[Round], way: str) -> list[float]:
    return [one[way].cpu_us_per_call for one in rounds]
