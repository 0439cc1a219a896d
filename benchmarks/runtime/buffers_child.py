"""``python -m benchmarks.runtime.buffers_child HOW MODEL.onnx REQUESTS``: the same requests with
buffers from the pool (``pool``), or made anew for each (``none``), as straight code does.

600 KB in and out; the app's tensors are copied in and out in both, as they are in a server.
Says its figures as one line when its standard input brings one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np

from benchmarks.runtime.models import bare
from benchmarks.runtime.processes import status_bytes
from edge_sdk.engines import open_engine
from edge_sdk.tensor_pool import TensorPool

_SHAPE = (1, 3, 224, 224)
_WARM = 200
_LOOK_EVERY = 50

Array = np.ndarray[Any, Any]
Request = Callable[[Array, Array, Callable[[], None]], None]


def pooled(session: Any) -> Request:
    pool = TensorPool(budget_bytes=64 << 20)
    size_bytes = int(np.prod(_SHAPE)) * 4
    given, made = (pool.acquire(size_bytes).array(np.float32, _SHAPE) for _ in range(2))
    binding = session.bind({"x": given}, {"y": made})

    def request(came: Array, answer: Array, look: Callable[[], None]) -> None:
        np.copyto(given, came)
        binding.run()
        look()
        np.copyto(answer, made)

    return request


def unpooled(session: Any) -> Request:
    """``session`` is ONNX Runtime's own."""

    def request(came: Array, answer: Array, look: Callable[[], None]) -> None:
        given = came.copy()
        (made,) = session.run(None, {"x": given})
        look()
        np.copyto(answer, made)

    return request


def _ours(model: Path) -> Any:
    return open_engine("onnxruntime").load(model, threads=1)


def main() -> None:
    how, model, requests = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    make, session = (pooled, _ours(model)) if how == "pool" else (unpooled, bare(model))
    came, answer = np.ones(_SHAPE, np.float32), np.zeros(_SHAPE, np.float32)
    idle_bytes = status_bytes(os.getpid(), "RssAnon")
    peak_bytes = 0

    def look() -> None:
        nonlocal peak_bytes
        peak_bytes = max(peak_bytes, status_bytes(os.getpid(), "RssAnon"))

    request = make(session)
    for _ in range(_WARM):
        request(came, answer, lambda: None)
    print("ready", flush=True)
    for _line in sys.stdin:
        taken = []
        for number in range(requests):
            looks = number % _LOOK_EVERY == 0
            began_ns = time.perf_counter_ns()
            request(came, answer, look if looks else lambda: None)
            if not looks:
                taken.append((time.perf_counter_ns() - began_ns) / 1000)
        told = {"median_us": sorted(taken)[len(taken) // 2], "peak_bytes": peak_bytes - idle_bytes}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
