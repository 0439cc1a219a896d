"""The fast lane with one client: beside the socket floor, the engine alone and Triton."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from benchmarks.rows import Row, anchor, row
from benchmarks.runtime import figures, models, served, triton, ways
from benchmarks.runtime.served import Artifact
from benchmarks.runtime.targets import target
from benchmarks.runtime.ways import Places, Round, Way

_GRPC_CALLS = {models.SMALL: 400, models.LARGE: 80}  # 600 KB by gRPC takes milliseconds


def measure(folder: Path, *, rounds: int) -> list[Row]:
    paths = models.write_models(folder / "models")
    artifacts = [Artifact(model=name, path=path) for name, path in paths.items()]
    with contextlib.ExitStack() as held:
        enter = held.enter_context
        server = enter(served.serve(folder / "ours", artifacts))
        call, echo_pid = enter(ways.socket_floor(folder))
        found = {"floor": Way(call=call, pid=echo_pid, calls=2000)}
        for name, path in paths.items():
            short = name.rpartition("/")[2]
            given = np.random.default_rng(1).random(models.SHAPES[name], np.float32)
            bare, answer = ways.prebound(path, given)
            found[f"bare.{short}"] = Way(call=bare, calls=2000)
            for door, way, calls in (
                ("lane", ways.ours(server.address, name, given), 2000),
                ("prepared", ways.prepared(server.address, name, given), 2000),
                ("grpc", ways.ours(server.address, name, given, fast_lane=False), None),
            ):
                call = enter(way)
                ways.check(f"{door}.{short}", call, answer)
                found[f"{door}.{short}"] = Way(
                    call=call, pid=server.pid, calls=calls or _GRPC_CALLS[name]
                )
        _add_triton(held, folder, paths, found)
        return _rows(ways.sample(found, rounds=rounds))


def _add_triton(
    held: contextlib.ExitStack, folder: Path, paths: dict[str, Path], found: dict[str, Way]
) -> None:
    listed = [
        triton.onnx_model(name.rpartition("/")[2], path, models.SHAPES[name], (1, 10))
        for name, path in paths.items()
    ]
    server = triton.offered(held, folder / "triton", listed)
    if server is None:
        return
    for name, path in paths.items():
        short = name.rpartition("/")[2]
        given = np.random.default_rng(1).random(models.SHAPES[name], np.float32)
        _, answer = ways.prebound(path, given)
        for door, way in (
            ("triton", ways.stock(server.grpc_address, short, given)),
            ("triton-shm", ways.stock_shared(server.grpc_address, short, given, 40)),
        ):
            if door == "triton-shm" and name == models.SMALL:
                continue
            call = held.enter_context(way)
            ways.check(f"{door}.{short}", call, answer)
            calls = 400 if door == "triton-shm" else _GRPC_CALLS[name]
            found[f"{door}.{short}"] = Way(call=call, pid=server.pid, calls=calls)


def _rows(places: Places) -> list[Row]:
    return [one for place, rounds in places.items() for one in _place_rows(place, rounds)]


def _place_rows(place: str, rounds: list[Round]) -> list[Row]:
    p50 = {way: figures.percentiles(ways.by_round(rounds, way), 50) for way in rounds[0]}
    p99 = {way: figures.percentiles(ways.by_round(rounds, way), 99) for way in rounds[0]}
    bare = anchor("ONNX Runtime alone, prebound, us", "", p50["bare.small"])
    floor99 = anchor("SEQPACKET echo's p99 in the same round, us", "", p99["floor"])
    rows = []
    if place != "free":
        rows.append(target(f"runtime.lane.small.{place}.p50").row(p50["lane.small"], bare))
    excess = figures.excesses(p99["lane.small"], p99["floor"])
    rows.append(target(f"runtime.lane.small.{place}.p99-over-floor").row(excess, floor99))
    if place == "same-core":
        beside = anchor("ONNX Runtime alone, prebound, us", "", p50["bare.large"])
        rows.append(target("runtime.lane.large.same-core.p50").row(p50["lane.large"], beside))
    if "triton.small" in p50:
        rows += _triton_rows(place, p50)
    rows += [
        row(
            f"runtime.one.{way}.{place}.cpu",
            f"{way}, {place}, server's CPU",
            ways.cpu_by_round(rounds, way),
            "us",
            "<=",
        )
        for way in rounds[0]
        if not way.startswith("bare")
    ]
    rows += [
        row(f"runtime.one.{way}.{place}.{name}", f"{way}, {place}, {name}", values, "us", "<=")
        for name, by_way in (("p50", p50), ("p99", p99))
        for way, values in by_way.items()
    ]
    return rows


def _triton_rows(place: str, p50: dict[str, list[float]]) -> list[Row]:
    times = figures.ratios(p50["triton.small"], p50["lane.small"])
    beside = anchor("Triton's gRPC p50, us", triton.VERSION, p50["triton.small"])
    identity = f"runtime.triton-over-lane.small.{place}"
    if place == "other-core":
        what = f"Triton's gRPC p50 over the fast lane's, 64 floats, {place}"
        rows = [row(identity, what, times, "times", ">=", anchor=beside)]
    else:
        rows = [target(identity).row(times, beside)]
    if place != "same-core":
        times = figures.ratios(p50["lane.large"], p50["triton-shm.large"])
        beside = anchor("Triton's shared memory p50, us", triton.VERSION, p50["triton-shm.large"])
        rows.append(target(f"runtime.lane-over-triton-shm.large.{place}").row(times, beside))
    return rows
