"""Adaptive batching beside no batching and windows set by hand, with one client and with eight.

One model is bound by its weights (a batch costs little more than one request), the other by
its arithmetic (a batch costs as much as its requests, and waiting for it is lost).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from benchmarks.rows import Row, anchor, row
from benchmarks.runtime import clients, figures, models, processes, served
from benchmarks.runtime.clients import Client
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.targets import target
from device_agent.config import ModelConfig

_BATCH_MAX = 8
_WINDOWS_MS = (0.0, 0.5, 2.0)
_CLIENTS = 8
_ALONE_S = 0.15
_ALONE_PIECES = 6
_FOR_S = 1.0

Samples = dict[str, list[float]]


def measure(folder: Path, *, rounds: int) -> list[Row]:
    listed = {
        "weights": (models.weight_bound(folder / "weights"), models.WEIGHTS_SHAPE),
        "convolution": (models.convolution(folder / "convolution"), models.CONVOLUTION_SHAPE),
    }
    rows = []
    for name, (path, shape) in listed.items():
        rows += _model_rows(name, folder / f"{name}-servers", path, shape, rounds=rounds)
    return rows


def _model_rows(
    name: str, folder: Path, path: Path, shape: tuple[int, ...], *, rounds: int
) -> list[Row]:
    model = f"bench/{name}"
    artifact = Artifact(model=model, path=path)
    alone: dict[str, Samples] = {"off": {"p50": [], "p99": []}, "adaptive": {"p50": [], "p99": []}}
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        ways, pids = {}, {}
        for way, batch_max in (("off", 1), ("adaptive", _BATCH_MAX)):
            config = {model: ModelConfig(batch_max=batch_max)}
            server = enter(served.serve(folder / way, [artifact], models=config))
            ways[way] = clients.way("lane", server.address, model, shape)
            pids[way] = server.pid
        for milliseconds in _WINDOWS_MS:
            way, socket = f"window-{milliseconds:g}", folder / f"window-{milliseconds:g}"
            given = (str(socket), str(path), str(milliseconds), str(_BATCH_MAX))
            child, _ = enter(processes.child(processes.module("window_child", *given)))
            ways[way] = clients.way("lane", f"unix:{socket}", model, shape)
            pids[way] = child.pid
        asking = enter(clients.crowd(_CLIENTS, ways))
        rate: Samples = {way: [] for way in ways}
        cpu: Samples = {way: [] for way in ways}
        for _ in range(rounds):
            for way, taken in _alone(asking[0], alone).items():
                alone[way]["p50"].append(figures.percentile(taken, 50))
                alone[way]["p99"].append(figures.percentile(taken, 99))
            for way, one in clients.in_turns(asking, pids, for_s=_FOR_S).items():
                rate[way].append(one.rate)
                cpu[way].append(one.cpu_us)
    return _rows(name, alone, rate, cpu)


def _alone(client: Client, ways: Mapping[str, object]) -> dict[str, list[float]]:
    """Microseconds of one client's requests, the ways in turns."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(_ALONE_PIECES):
        for way in ways:
            client.begin(way, for_s=_ALONE_S)
            taken[way] += client.log().latencies_us
    return taken


def _rows(name: str, alone: dict[str, Samples], rate: Samples, cpu: Samples) -> list[Row]:
    off, adaptive = (alone[way]["p50"] for way in ("off", "adaptive"))
    # No batching is a setting by hand too, and for convolutions the right one.
    by_hand = {way: values for way, values in rate.items() if way != "adaptive"}
    best = figures.best(by_hand)
    rows = [
        target(f"runtime.batching.{name}.alone").row(
            figures.ratios(adaptive, off), anchor("batching off, p50, us", "", off)
        ),
        target(f"runtime.batching.{name}.eight").row(
            figures.ratios(rate["adaptive"], rate[best]),
            anchor(f"{best}, requests/s", "", rate[best]),
        ),
    ]
    for way, values in rate.items():
        what = f"{name}, eight clients, {way}"
        prefix = f"runtime.batching.{name}.{way}"
        rows.append(row(f"{prefix}.rate", f"{what}: rate", values, "requests/s", ">="))
        rows.append(row(f"{prefix}.cpu", f"{what}: server's CPU", cpu[way], "us", "<="))
    for way, one in alone.items():
        for percent, values in one.items():
            what = f"{name}, one client, {way}: {percent}"
            rows.append(
                row(f"runtime.batching.{name}.one.{way}.{percent}", what, values, "us", "<=")
            )
    return rows
