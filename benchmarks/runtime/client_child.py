"""``python -m benchmarks.runtime.client_child JSON``: one client, in a process of its own.

The argument names ways by name (door, address, model, shape of its float32 input). When all
are connected it says one line; then it reads a job a line and answers each with a line: which
way, from when, for how long, and at what rate. Without a rate a request follows the answer
before it. With one, requests have a time each, and latency counts from that time: what waits
because another was slow has waited, as in an application that does not stop for us. SIGUSR1
ends a job before its time.
"""

from __future__ import annotations

import gc
import http.client
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import numpy as np

TOKEN_VARIABLE = "BENCH_APP_TOKEN"
_DEADLINE_S = 30.0
_TOLERANCE = 1e-3
_ERRORS_KEPT = 5

Ask = Callable[[], tuple[str, Any]]  # the version that answered, and the output


class Stop:
    """Whether the job at hand is to end."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGUSR1, self._ask)

    def _ask(self, _number: int, _frame: object) -> None:
        self.asked = True


def lane(way: dict[str, Any]) -> Ask:
    """By ``edge_sdk.client``, on the fast lane where there is one."""
    from edge_sdk.client import connect

    client = connect(inference=way["address"], fast_lane=way["door"] == "lane")
    model, inputs = client.model(way["model"]), {"x": given(way)}
    options = {"priority": way["priority"]} if way.get("priority") else {}

    def ask() -> tuple[str, Any]:
        answer = model.infer(inputs, deadline_s=_DEADLINE_S, **options)
        return answer.version, answer.outputs["y"]

    return ask


def stock(way: dict[str, Any]) -> Ask:
    """By the stock ``tritonclient`` over gRPC."""
    import tritonclient.grpc as triton

    client = triton.InferenceServerClient(way["address"])
    shown = headers()
    array = given(way)
    tensor = triton.InferInput("x", list(array.shape), "FP32")
    options = {"priority": way["priority"]} if way.get("priority") else {}

    def ask() -> tuple[str, Any]:
        tensor.set_data_from_numpy(array)
        answer = client.infer(
            way["model"], [tensor], client_timeout=_DEADLINE_S, headers=shown, **options
        )
        return answer.get_response().model_version, answer.as_numpy("y")

    return ask


def http_json(way: dict[str, Any], array: Any = None) -> Ask:
    """By HTTP and JSON over one connection; its server closes it after a few idle seconds."""
    connection = http.client.HTTPConnection(way["address"], timeout=_DEADLINE_S)
    array = given(way) if array is None else array

    def ask() -> tuple[str, Any]:
        body = json.dumps({"x": array.tolist()})
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
        except (ConnectionError, http.client.HTTPException):
            connection.close()
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
        answer = json.loads(response.read())
        return "", np.array(answer["y"], np.float32)

    return ask


def headers() -> dict[str, str] | None:
    """What our agent wants to see over TCP; other servers pass over it."""
    token = os.environ.get(TOKEN_VARIABLE)
    return {"authorization": f"Bearer {token}"} if token else None


def given(way: dict[str, Any]) -> Any:
    return np.random.default_rng(way.get("seed", 1)).random(way["shape"], np.float32)


def work(ask: Ask, job: dict[str, Any], expected: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """``expected``: outputs by version; empty: none is compared."""
    rate, begin_s, for_s = job.get("rate"), job["begin_s"], job["for_s"]
    phase_s = job.get("phase_s", 0.0)
    sent_s, latencies_us, versions, errors = [], [], Counter[str](), []
    failed = 0
    time.sleep(max(0.0, begin_s + phase_s - time.monotonic()))
    while not stop.asked:
        now_s = time.monotonic()
        due_s = len(sent_s) / rate + phase_s if rate else now_s - begin_s
        if due_s >= for_s:
            break
        if due_s > now_s - begin_s:
            time.sleep(due_s - (now_s - begin_s))
        try:
            version, output = ask()
            problem = judge(version, output, expected)
        except Exception as error:  # noqa: BLE001 - whatever a request ends with is counted
            version, problem = "", f"{type(error).__name__}: {error}"
        answered_s = time.monotonic()
        sent_s.append(round(due_s, 6))
        latencies_us.append(round(1e6 * (answered_s - begin_s - due_s), 1))
        versions[version] += 1
        if problem:
            failed += 1
            errors = [*errors, problem][:_ERRORS_KEPT]
    return {
        "sent_s": sent_s,
        "latencies_us": latencies_us,
        "versions": versions,
        "failed": failed,
        "errors": errors,
        "cpu_s": time.process_time(),
    }


def judge(version: str, output: Any, expected: dict[str, Any]) -> str:
    """What is wrong with an answer; empty: nothing."""
    if not expected:
        return ""
    if version not in expected:
        return f"version {version!r} answered"
    if not np.allclose(output, expected[version], rtol=_TOLERANCE, atol=_TOLERANCE):
        return f"not what version {version} answers, which the answer names"
    return ""


def main() -> None:
    settings = json.loads(sys.argv[1])
    stop = Stop()
    doors: dict[str, Any] = {"lane": lane, "grpc": lane, "stock": stock, "http": http_json}
    asks = {name: doors[way["door"]](way) for name, way in settings["ways"].items()}
    expected = {
        version: np.array(values, np.float32)
        for version, values in settings.get("expected", {}).items()
    }
    for ask in asks.values():
        for _ in range(settings.get("warm", 20)):
            ask()
    # What this process allocated so far is no rubbish, and looking for it stops its clock.
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        stop.asked = False
        print(json.dumps(work(asks[job["way"]], job, expected, stop)), flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
