"""A process that answers 600 KB with 600 KB and says what it allocated.

``python -m tests.support.allocations MODEL.onnx pool|bare REQUESTS`` prints one JSON object:
with ``pool`` through the dispatcher as all doors use it, with ``bare`` as one would write it by
hand, a copy of what came and ``session.run()``.
"""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import memory
from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.load import Loader, LoadOrder
from device_agent.serving.model_table import ModelTable
from device_agent.serving.request import GivenTensor
from edge_sdk.base import Digest
from edge_sdk.engines import open_engine
from edge_sdk.engines.contract import Array
from edge_sdk.tensor_pool import TensorPool

MODEL = "team/echo"
SHAPE = (1, 3, 224, 224)
_WARM = 200
_WARM_TRACED = 2500  # CPython keeps up to 2,000 freed tuples of each length for later

Look = Callable[[Array], None]
Answering = Callable[[bytes, Look], None]


def pooled(path: Path, pool: TensorPool) -> Answering:
    order = LoadOrder(
        model=MODEL,
        artifact=Digest.of(b""),
        version="1.0.0",
        variant="default",
        folder=path.parent,
        entry=path.name,
        engine="onnxruntime",
        golden_path=None,
    )
    table = ModelTable()
    table.switch(Loader(pool, threads=1).load(order))
    table.set_ready()
    dispatcher = Dispatcher(table, running_max=2)

    def answer(data: bytes, look: Look) -> None:
        given = GivenTensor(name="x", dtype="float32", shape=SHAPE, data=data)
        with dispatcher.infer(MODEL, "", [given]) as made:
            look(made.outputs["y"])

    return answer


def bare(path: Path) -> Answering:
    session = open_engine("onnxruntime").load(path).library_session  # type: ignore[attr-defined]

    def answer(data: bytes, look: Look) -> None:
        x = np.frombuffer(data, np.float32).reshape(SHAPE).copy()
        look(session.run(["y"], {"x": x})[0])

    return answer


def see(path: Path, way: str, requests: int) -> dict[str, int | None]:
    pool = TensorPool(budget_bytes=8 << 20, check=True)
    checked = pooled(path, pool) if way == "pool" else bare(path)
    free = pooled(path, TensorPool(budget_bytes=8 << 20)) if way == "pool" else checked
    data = np.arange(np.prod(SHAPE), dtype=np.float32).tobytes()
    seen: dict[str, int | None] = {"outside": _outside(checked, data, pool)}
    _repeat(free, data, _WARM)
    gc.collect()
    calls, faults = _calls(), memory.minor_page_faults()
    _repeat(free, data, requests)
    faults = memory.minor_page_faults() - faults
    seen["faults"] = faults if memory.counts_page_faults() else None
    now = _calls()
    seen["calls"] = None if now is None or calls is None else now - calls
    tracemalloc.start()
    _repeat(free, data, _WARM_TRACED if way == "pool" else 1)
    tracemalloc.reset_peak()
    begin, _ = tracemalloc.get_traced_memory()
    _repeat(free, data, requests)
    seen["traced_peak"] = tracemalloc.get_traced_memory()[1] - begin
    return seen


def _outside(answer: Answering, data: bytes, pool: TensorPool) -> int:
    outside = 0

    def look(array: Array) -> None:
        nonlocal outside
        outside += not pool.owns(array)

    for _ in range(10):
        answer(data, look)
    return outside


def _repeat(answer: Answering, data: bytes, requests: int) -> None:
    for _ in range(requests):
        answer(data, _nothing)


def _nothing(_array: Array) -> None:
    pass


def _calls() -> int | None:
    """Of malloc and its kin for 4 KiB or more, where benchmarks/runtime/malloc_counter.c is
    loaded before everything else."""
    counter = getattr(ctypes.CDLL(None), "large_allocations", None)
    if counter is None:
        return None
    counter.restype = ctypes.c_ulong
    return int(counter())


if __name__ == "__main__":
    json.dump(see(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])), sys.stdout)
