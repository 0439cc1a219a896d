"""Sixteen identical requests at once on a model of 50 ms: one run, and all have its answer."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, anchor
from benchmarks.runtime import models, served, triton
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.targets import target
from device_agent.config import CacheConfig
from edge_sdk.client import Client, connect

_MODEL = "bench/slow"
_RUN_MS = 50.0
_AT_ONCE = 16
_PAIRS = 3  # of one request alone and sixteen at once, in a round


def measure(folder: Path, *, rounds: int) -> list[Row]:
    path = models.lasting(folder / "slow", _RUN_MS)
    artifact = Artifact(model=_MODEL, path=path)
    caches = {_MODEL: CacheConfig(memory_bytes=0)}  # nothing is kept: only what runs is shared
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        server = enter(served.serve(folder / "ours", [artifact], caches=caches))
        client = enter(connect(inference=server.address))
        listed = [triton.onnx_model("slow", path, models.SLOW_SHAPE, (1, 1))]
        other = triton.offered(held, folder / "triton", listed)
        seeds = itertools.count()
        _together(client, next(seeds))  # connections and slots are made
        executions, times, alone, peer = [], [], [], []
        for _ in range(rounds):
            singles, togethers = [], []
            for _ in range(_PAIRS):
                singles.append(_alone(client, next(seeds)))
                before, _ = server.executions(_MODEL)
                togethers.append(_together(client, next(seeds)))
                after, _ = server.executions(_MODEL)
                executions.append(float(after - before))
            alone.append(statistics.median(singles))
            times.append(statistics.median(togethers) / alone[-1])
            if other is not None:
                peer.append(_triton_together(other.grpc_address, next(seeds)) / alone[-1])
    one = anchor("one run alone, ms", "", [1000 * taken for taken in alone])
    beside = anchor("Triton, times one run", triton.VERSION, peer) if peer else one
    return [
        target("runtime.flight.executions").row(executions, one),
        target("runtime.flight.last-answer").row(times, beside),
    ]


def _given(seed: int) -> Any:
    return np.random.default_rng(seed).random(models.SLOW_SHAPE, np.float32)


def _alone(client: Client, seed: int) -> float:
    given = _given(seed)
    began_s = time.perf_counter()
    client.model(_MODEL).infer({"x": given})
    return time.perf_counter() - began_s


def _together(client: Client, seed: int) -> float:
    """Seconds from the start sign to the last answer. Raises: RuntimeError."""
    given, answers = _given(seed), []

    def ask() -> None:
        answers.append(client.model(_MODEL).infer({"x": given}).outputs["y"])

    taken_s = _at_once(ask)
    if len(answers) != _AT_ONCE or any((one != answers[0]).any() for one in answers):
        raise RuntimeError(f"{len(answers)} of {_AT_ONCE} identical requests were answered alike")
    return taken_s


def _triton_together(address: str, seed: int) -> float:
    import tritonclient.grpc as stock

    client = stock.InferenceServerClient(address)
    tensor = stock.InferInput("x", list(models.SLOW_SHAPE), "FP32")
    tensor.set_data_from_numpy(_given(seed))
    try:
        return _at_once(lambda: client.infer("slow", [tensor]))
    finally:
        client.close()


def _at_once(ask: Any) -> float:
    gate = threading.Barrier(_AT_ONCE + 1)

    def work() -> None:
        gate.wait()
        ask()

    threads = [threading.Thread(target=work) for _ in range(_AT_ONCE)]
    for one in threads:
        one.start()
    gate.wait()
    began_s = time.perf_counter()
    for one in threads:
        one.join()
    return time.perf_counter() - began_s
