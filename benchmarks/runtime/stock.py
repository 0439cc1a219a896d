"""The stock tritonclient over gRPC with one client: ours, Triton and a plain echo server."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from benchmarks.rows import Row, anchor, row
from benchmarks.runtime import figures, models, processes, served, triton, ways
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.targets import target
from benchmarks.runtime.ways import Places, Round, Way

_CALLS = 600


def measure(folder: Path, *, rounds: int) -> list[Row]:
    path = models.write_models(folder / "models")[models.SMALL]
    artifact = Artifact(model=models.SMALL, path=path)
    given = np.random.default_rng(1).random((1, 64), np.float32)
    _, answer = ways.prebound(path, given)
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        found: dict[str, Way] = {}

        def add(name: str, address: str, model: str, pid: int, expected: models.Array) -> None:
            call = enter(ways.stock(address, model, given))
            ways.check(name, call, expected)
            found[name] = Way(call=call, pid=pid, calls=_CALLS)

        for name, tcp in (("ours", True), ("ours-unix", False)):
            server = enter(served.serve(folder / name, [artifact], tcp=tcp))
            add(name, server.address, models.SMALL, server.pid, answer)
        echo, address = enter(processes.child(processes.module("grpc_echo_child")))
        add("echo", address, "echo", echo.pid, given)
        listed = [triton.onnx_model("small", path, (1, 64), (1, 10))]
        other = triton.offered(held, folder / "triton", listed)
        if other is not None:
            add("triton", other.grpc_address, "small", other.pid, answer)
        return _rows(ways.sample(found, rounds=rounds))


def _rows(places: Places) -> list[Row]:
    """The targets are of the place where the kernel decides: Triton is made of threads and
    processes, and one core for all of them is not how it runs."""
    return [
        *_targets(places["free"]),
        *(one for place, rounds in places.items() for one in _place_rows(place, rounds)),
    ]


def _targets(rounds: list[Round]) -> list[Row]:
    p50 = {way: figures.percentiles(ways.by_round(rounds, way), 50) for way in rounds[0]}
    cpu = {way: ways.cpu_by_round(rounds, way) for way in rounds[0]}
    rows = []
    if "triton" in p50:
        beside = anchor("Triton's p50, us", triton.VERSION, p50["triton"])
        times = figures.ratios(p50["ours"], p50["triton"])
        rows.append(target("runtime.stock.one.p50-over-triton").row(times, beside))
    beside = anchor("plain gRPC echo's CPU, us", _grpc_version(), cpu["echo"])
    times = figures.ratios(cpu["ours"], cpu["echo"])
    return [*rows, target("runtime.stock.one.cpu-over-echo").row(times, beside)]


def _place_rows(place: str, rounds: list[Round]) -> list[Row]:
    rows = []
    for way in rounds[0]:
        calls = ways.by_round(rounds, way)
        for name, values in (
            ("p50", figures.percentiles(calls, 50)),
            ("p99", figures.percentiles(calls, 99)),
            ("cpu", ways.cpu_by_round(rounds, way)),
        ):
            what = f"tritonclient, one client, {way}, {place}: {name}"
            rows.append(row(f"runtime.stock.one.{way}.{place}.{name}", what, values, "us", "<="))
    return rows


def _grpc_version() -> str:
    import grpc

    return str(grpc.__version__)
