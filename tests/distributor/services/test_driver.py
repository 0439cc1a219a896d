"""Rollouts are built and assigned; aborting stops the building."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge_sdk.protos import fleet_v1_pb2 as fleet
from tests.support.artifacts import make_artifact, noise
from tests.support.fleet_server import fleet_server, publish, wait_for_rollout, wait_until

FIRST = make_artifact({"m.bin": noise(50_000)})


def test_aborting_while_it_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rollout that is aborted while its deltas are built assigns nothing, now or later."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    with fleet_server(tmp_path / "data") as server:
        stub = server.operator()
        publish(stub, FIRST)
        device = server.device("cam-1")
        device.check_in()
        with monkeypatch.context() as patched:
            patched.setattr(server.builder, "build", never)
            made = stub.CreateRollout(
                fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
            )
            aborted = stub.AbortRollout(fleet.AbortRolloutRequest(rollout=made.rollout))
        assert [(row.state, row.message) for row in aborted.devices] == [
            ("recalled", "was not assigned yet")
        ]
        again = stub.CreateRollout(
            fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
        )
        wait_for_rollout(stub, again.rollout, "running")
        assert stub.GetRollout(fleet.GetRolloutRequest(rollout=made.rollout)).state == "aborted"
    with fleet_server(tmp_path / "data") as server:
        again = server.device("cam-1")
        assigned = again.check_in()
        assert assigned is not None
        assert assigned.models[0].rollout == "r2"


def test_c20_each_device_by_what_it_holds(tmp_path: Path) -> None:
    """One rollout, three devices: nothing, the old version, the new one; deltas built once each."""
    data = FIRST.files["m.bin"]
    second = make_artifact({"m.bin": data[:-3] + b"new"}, version="2.0.0", parent="1.0.0")
    with fleet_server(tmp_path / "data") as server:
        stub = server.operator()
        publish(stub, FIRST)
        publish(stub, second)
        held = {"none": [], "old": [FIRST.artifact], "old-2": [FIRST.artifact], "new": []}
        held["new"] = [second.artifact]
        for name, artifacts in held.items():
            server.device(name, held=artifacts).check_in()
        made = stub.CreateRollout(
            fleet.RolloutRequest(model="team/digits", version="2.0.0"), timeout=30
        )
        running = wait_for_rollout(stub, made.rollout, "running")
        assert (running.deltas_done, running.deltas_total) == (2, 2)
        bytes_of = {row.device: row.wire_bytes for row in running.devices}
        assert bytes_of["new"] == 0
        assert 0 < bytes_of["old"] == bytes_of["old-2"] < 1_000
        assert bytes_of["none"] == running.devices[1].whole_bytes > 40_000
        assert server.builder.builds_started == 2


def test_a_dry_run_that_is_cancelled(tmp_path: Path) -> None:
    """An operator that goes away during a dry run leaves the server working."""
    with fleet_server(tmp_path / "data") as server:
        stub = server.operator()
        publish(stub, FIRST)
        server.device("cam-1").check_in()
        request = fleet.RolloutRequest(model="team/digits", version="1.0.0")
        planning = stub.PlanRollout(request, timeout=60)
        next(iter(planning))
        planning.cancel()
        wait_until(lambda: bool(list(stub.PlanRollout(request, timeout=60))[-1].devices))
        assert server.builder.builds_started == 1
