"""One device that asks for everything at once takes nothing from another.

It opens hundreds of watches and downloads that it does not read, begins calls and says nothing,
floods, and sends huge messages and metadata, from a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from distributor.services import Limits, listener
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.rpc import MethodLimits, Rate
from tests.support.artifacts import make_artifact, noise
from tests.support.fleet_server import FleetServer, fleet_server, publish, wait_for_rollout
from tests.support.greedy_client import NAME, READERS, WATCHES
from tests.support.source_tree import ROOT

pytestmark = pytest.mark.distributor

BIG = make_artifact({"m.bin": noise(6 << 20, "greed")}, model="team/greed")
DIGEST = BIG.manifest.files[0].digest.raw
GROWTH_BYTES_MAX = 200 << 20  # measured: 48 to 56 MiB


def _prepare(server: FleetServer) -> None:
    """There is something to fetch, and a watch of the greedy device says something at once."""
    publish(server.operator(), BIG)
    server.device(NAME).check_in()
    cohort = fleet.Cohort(devices=[NAME])
    request = fleet.RolloutRequest(model="team/greed", version="1.0.0", cohort=cohort)
    made = server.operator().CreateRollout(request, timeout=30)
    wait_for_rollout(server.operator(), made.rollout, "running")


@contextmanager
def greedy(server: FleetServer, got: dict[str, int]) -> Iterator[None]:
    """At its height within the block; what it got is in ``got`` after it."""
    command = [sys.executable, "-m", "tests.support.greedy_client"]
    with subprocess.Popen(
        [*command, server.serving.device_address, DIGEST.hex()],
        cwd=ROOT,
        env={**os.environ, "GRPC_VERBOSITY": "ERROR", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"begun\n"
            yield
            process.stdin.close()
            got.update(json.loads(process.stdout.readline()))
        finally:
            process.kill()


def test_another_device_does_not_notice(tmp_path: Path) -> None:
    """Its check-ins, its watch and its download are answered rightly and in time, and memory
    does not grow with what the greedy one asks for."""
    got: dict[str, int] = {}
    with fleet_server(tmp_path / "data") as server:
        _prepare(server)
        device = server.device("honest")
        device.check_in()
        rss_before = psutil.Process().memory_info().rss
        took_s: list[float] = []
        with greedy(server, got):
            watch = device.stub.Watch(delivery.WatchRequest(), timeout=60)
            for _ in range(30):
                began_s = time.monotonic()
                device.check_in()
                took_s.append(time.monotonic() - began_s)
            assert device.fetch(DIGEST) == BIG.files["m.bin"]
            grown_bytes = psutil.Process().memory_info().rss - rss_before
            assert server.serving.wakeups.watched("device honest")
            assert server.serving.wakeups.watched(f"device {NAME}")
            watch.cancel()
    assert sorted(took_s)[28] < 3.0  # measured: 0.04 to 0.2, beside other work
    assert grown_bytes < GROWTH_BYTES_MAX
    assert 0 < got["Watch held"] <= 4
    assert got["Watch RESOURCE_EXHAUSTED"] >= WATCHES - 100
    assert 0 < got["Fetch held"] <= 8
    assert got["flood RESOURCE_EXHAUSTED"]
    assert not got.get("huge OK")
    assert not got.get("metadata OK")


def test_control_without_limits_it_gets_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same device where no limit holds: every watch and download is its own."""
    all_of_it = MethodLimits(
        message_bytes=64 << 20, metadata_bytes=1 << 20, each=1 << 20, all=1 << 20
    )
    service = "/edge.delivery.v1.DeliveryService/"
    names = ("CheckIn", "Watch", "Plan", "Fetch", "Report")
    none = Limits(
        table={service + name: all_of_it for name in names}, rate=Rate(burst=1e9, per_s=1e9)
    )
    monkeypatch.setattr(listener, "limits_for", lambda _kind: none)
    got: dict[str, int] = {}
    with fleet_server(tmp_path / "data") as server:
        _prepare(server)
        with greedy(server, got):
            pass
    assert got["Watch held"] == WATCHES
    assert got["Fetch held"] == READERS
    assert not got.get("flood RESOURCE_EXHAUSTED")
    assert got["metadata OK"]
