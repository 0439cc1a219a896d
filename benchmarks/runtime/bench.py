"""The fast lane beside gRPC, the engine alone and the socket floor: ``make bench-runtime``.

One client, closed loop; all ways take turns in blocks, so that a neighbour's noise falls on
all of them. Both ends on one core, on two, and where the kernel puts them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.rows import Row, anchor, document, row, show, write_json
from benchmarks.runtime import echo_child, models
from edge_sdk.base.command import run
from edge_sdk.client import Model, connect

NAME = "bench-runtime"
_WARM = 50

Call = Callable[[], object]
Samples = Mapping[str, Mapping[str, list[list[float]]]]  # place, way, block: microseconds


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Blocks of each way.")
@click.option("--calls", default=1000, show_default=True, help="Requests in a block.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
def cli(rounds: int, calls: int) -> None:
    """Measures one request by each way and writes build/bench-runtime.json.

    Example: python -m benchmarks.runtime.bench --rounds 3
    """
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as folder:
        rows = measure(Path(folder), rounds=rounds, calls=calls)
    write_json(Path("build") / f"{NAME}.json", document(NAME, rows))
    show("On this machine", rows)


def measure(folder: Path, *, rounds: int, calls: int) -> list[Row]:
    """Starts the servers as processes of their own in ``folder``."""
    paths = models.write_models(folder)
    given = [f"{name}={path}" for name, path in paths.items()]
    with (
        _child("server_child", str(folder), *given) as (server, address),
        _child("echo_child", str(folder / "echo.sock")) as (echo, _),
        connect(inference=address) as by_lane,
        connect(inference=address, fast_lane=False) as by_grpc,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer,
    ):
        peer.connect(str(folder / "echo.sock"))
        ways: dict[str, Call] = {"floor": _echo(peer)}
        for name in (models.SMALL, models.LARGE):
            short = name.rpartition("/")[2]
            ways[f"lane.{short}"] = _infer(by_lane.model(name), name)
            ways[f"grpc.{short}"] = _infer(by_grpc.model(name), name)
        return _rows(_sample(ways, [server.pid, echo.pid], rounds=rounds, calls=calls))


def _echo(peer: socket.socket) -> Call:
    packet, buffer = bytes(echo_child.PACKET_BYTES), bytearray(echo_child.PACKET_BYTES)

    def call() -> None:
        peer.send(packet)
        peer.recv_into(buffer)

    return call


def _infer(model: Model, name: str) -> Call:
    inputs: dict[str, Any] = {"x": np.ones(models.SHAPES[name], np.float32)}
    return lambda: model.infer(inputs)


def _sample(
    ways: Mapping[str, Call], children: list[int], *, rounds: int, calls: int
) -> dict[str, dict[str, list[list[float]]]]:
    places: dict[str, dict[str, list[list[float]]]] = {}
    for _ in range(rounds):
        for place, (ours, theirs) in _places().items():
            _pin(os.getpid(), ours)
            for child in children:
                _pin(child, theirs)
            taken = places.setdefault(place, {way: [] for way in ways})
            for way, call in ways.items():
                taken[way].append(_block(call, calls))
    _pin(os.getpid(), set(range(os.cpu_count() or 1)))
    return places


def _places() -> dict[str, tuple[set[int], set[int]]]:
    """Cores of this process and of the servers."""
    first, *others = sorted(os.sched_getaffinity(0) | set(range(os.cpu_count() or 1)))
    everywhere = {first, *others}
    places = {"same-core": ({first}, {first}), "free": (everywhere, everywhere)}
    if others:
        places["other-core"] = ({first}, {others[0]})
    return places


def _pin(pid: int, cores: set[int]) -> None:
    """All threads of a process; those that it starts later follow."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread.name), cores)


def _block(call: Call, calls: int) -> list[float]:
    for _ in range(_WARM):
        call()
    taken = []
    for _ in range(calls):
        began_ns = time.perf_counter_ns()
        call()
        taken.append((time.perf_counter_ns() - began_ns) / 1000)
    return taken


def _rows(samples: Samples) -> list[Row]:
    rows = []
    for place, ways in samples.items():
        floor = _percentiles(ways["floor"])
        rows += [_floor_row(place, percent, floor[percent]) for percent in floor]
        for way, blocks in ways.items():
            if way == "floor":
                continue
            got = _percentiles(blocks)
            door, _, model = way.partition(".")
            rows += [
                row(
                    f"runtime.{door}.{model}.{place}.p{percent}",
                    f"one request by {door}, {model} tensor, {place}, p{percent}",
                    values,
                    "us",
                    "<=",
                    anchor=anchor("SEQPACKET echo in the same round, us", "", floor[percent]),
                )
                for percent, values in got.items()
            ]
        rows.append(_ratio_row(place, ways))
    return rows


def _floor_row(place: str, percent: int, values: list[float]) -> Row:
    what = f"64 bytes to a SEQPACKET socket and back, {place}, p{percent}"
    return row(f"runtime.floor.{place}.p{percent}", what, values, "us", "<=")


def _ratio_row(place: str, ways: Mapping[str, list[list[float]]]) -> Row:
    lane, grpc = (_percentiles(ways[f"{door}.small"])[50] for door in ("lane", "grpc"))
    return row(
        f"runtime.grpc-over-lane.small.{place}",
        f"our gRPC door's p50 over the lane's, small tensor, {place}",
        [slow / fast for slow, fast in zip(grpc, lane, strict=True)],
        "times",
        ">=",
    )


def _percentiles(blocks: list[list[float]]) -> dict[int, list[float]]:
    """p50 and p99 of each block."""
    return {
        percent: [statistics.quantiles(block, n=100)[percent - 1] for block in blocks]
        for percent in (50, 99)
    }


@contextlib.contextmanager
def _child(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of this folder, and the line that it says when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.runtime.{module}", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.terminate()
        process.wait()
        process.stdout.close()


def main() -> None:
    run(cli, NAME)


if __name__ == "__main__":
    main()
