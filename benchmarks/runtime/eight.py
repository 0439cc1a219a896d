"""Eight stock clients, each a process: throughput of ours, Triton and a plain echo server."""

from __future__ import annotations

import contextlib
from pathlib import Path

from benchmarks.rows import Row, anchor, row
from benchmarks.runtime import clients, figures, models, processes, served, triton
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.targets import target

_CLIENTS = 8
_FOR_S = 1.5

Seen = dict[str, dict[str, list[float]]]  # way, figure, round


def measure(folder: Path, *, rounds: int) -> list[Row]:
    path = models.write_models(folder / "models")[models.SMALL]
    artifact = Artifact(model=models.SMALL, path=path)
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        ours = enter(served.serve(folder / "ours", [artifact], tcp=True))
        by_lane = enter(served.serve(folder / "lane", [artifact]))
        echo, echo_address = enter(processes.child(processes.module("grpc_echo_child")))
        pids = {"ours": ours.pid, "echo": echo.pid, "lane": by_lane.pid}
        listed = {
            "ours": clients.way("stock", ours.address, models.SMALL, (1, 64)),
            "echo": clients.way("stock", echo_address, "echo", (1, 64)),
            "lane": clients.way("lane", by_lane.address, models.SMALL, (1, 64)),
        }
        given = [triton.onnx_model("small", path, (1, 64), (1, 10))]
        other = triton.offered(held, folder / "triton", given)
        if other is not None:
            pids["triton"] = other.pid
            listed["triton"] = clients.way("stock", other.grpc_address, "small", (1, 64))
        asking = enter(clients.crowd(_CLIENTS, listed))
        return _rows(_sample(asking, pids, rounds=rounds))


def _sample(asking: list[clients.Client], pids: dict[str, int], *, rounds: int) -> Seen:
    seen: Seen = {name: {"rate": [], "cpu": [], "p50": [], "p99": []} for name in pids}
    for _ in range(rounds):
        for name, one in clients.in_turns(asking, pids, for_s=_FOR_S).items():
            seen[name]["rate"].append(one.rate)
            seen[name]["cpu"].append(one.cpu_us)
            for percent in (50, 99):
                value = 1000 * figures.percentile(one.latencies_ms, percent)
                seen[name][f"p{percent}"].append(value)
    return seen


def _rows(seen: Seen) -> list[Row]:
    rate = {name: one["rate"] for name, one in seen.items()}
    beside = anchor("plain gRPC echo, requests/s", "", rate["echo"])
    times = figures.ratios(rate["ours"], rate["echo"])
    rows = [target("runtime.stock.eight.throughput-over-echo").row(times, beside)]
    if "triton" in rate:
        rows.append(
            row(
                "runtime.stock.eight.throughput-over-triton",
                "stock tritonclient over gRPC, eight clients: throughput over Triton's",
                figures.ratios(rate["ours"], rate["triton"]),
                "times",
                ">=",
                anchor=anchor("Triton, requests/s", triton.VERSION, rate["triton"]),
            )
        )
    for name, one in seen.items():
        for figure, values in one.items():
            what = f"eight clients, {name}: {figure}"
            unit, direction = ("requests/s", ">=") if figure == "rate" else ("us", "<=")
            rows.append(row(f"runtime.eight.{name}.{figure}", what, values, unit, direction))  # type: ignore[arg-type]
    return rows
