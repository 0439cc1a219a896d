"""The distributor as a whole: one on a port and a folder, ends well, survives being killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from distributor.storage import initialise
from edge_sdk.base import ConflictError, NotFoundError, RefusedError, UsageError
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos.delivery_v1_pb2_grpc import DeliveryServiceStub
from edge_sdk.protos.fleet_v1_pb2_grpc import FleetServiceStub
from edge_sdk.rpc import Credentials, open_channel
from tests.support.artifacts import make_artifact, noise
from tests.support.fleet_server import (
    FleetServer,
    ScriptedDevice,
    config_for,
    fleet_server,
    publish,
    publish_parts,
    remembering,
    wait_for_rollout,
    wait_until,
)
from tests.support.processes import Command, distributor

FIRST = make_artifact({"m.bin": noise(100_000)})


def _stubs(command: Command) -> tuple[FleetServiceStub, ScriptedDevice, list[grpc.Channel]]:
    operators = open_channel(command.ready["operator_address"], Credentials(operator="alice"))
    devices = open_channel(command.ready["device_address"], Credentials(device="cam-1"))
    device = ScriptedDevice(name="cam-1", stub=DeliveryServiceStub(devices))
    data = Path(command.arguments[command.arguments.index("--data") + 1])
    return remembering(FleetServiceStub(operators), data), device, [operators, devices]


def test_a_second_server_on_a_port(tmp_path: Path) -> None:
    """A port in use is noticed by name, not shared, and the second server leaves no trace."""
    with fleet_server(tmp_path / "one") as first:
        for setting in ("device_address", "operator_address"):
            address = getattr(first.serving, setting)
            config = config_for(tmp_path / "two", **{setting: address})
            initialise(config.data)
            with pytest.raises(ConflictError, match="in use"):
                FleetServer(config).start()
        assert first.device("cam-1").check_in() is None
    with fleet_server(tmp_path / "two"):
        pass


def test_a_second_server_on_a_folder(tmp_path: Path) -> None:
    """Two servers cannot have one data folder."""
    with (
        fleet_server(tmp_path / "data") as first,
        pytest.raises(ConflictError, match="another distributor"),
    ):
        FleetServer(first.config).start()


def test_only_this_machine(tmp_path: Path) -> None:
    """An address that others can reach is refused where nobody is asked for a certificate."""
    config = config_for(tmp_path / "data", device_address="0.0.0.0:0")
    initialise(config.data)
    with pytest.raises(RefusedError, match="not this machine"):
        FleetServer(config).start()


def test_addresses_that_cannot_be(tmp_path: Path) -> None:
    """No address, or one that this machine does not have, is a usage error."""
    for address in ("nonsense", "127.0.0.1:99999"):
        config = config_for(tmp_path / "data", device_address=address)
        initialise(config.data)
        with pytest.raises(UsageError):
            FleetServer(config).start()


def test_a_folder_that_was_never_made(tmp_path: Path) -> None:
    """Serving needs ``init`` first."""
    with pytest.raises(NotFoundError, match="init --data"):
        FleetServer(config_for(tmp_path / "data")).start()


def test_a_unix_socket(tmp_path: Path) -> None:
    """Listeners may be Unix sockets."""
    address = f"unix:{tmp_path}/d.sock"
    with fleet_server(tmp_path / "data", device_address=address) as server:
        assert server.serving.device_address == address
        assert server.device("cam-1").check_in() is None


def test_c57_watches_end_first_and_come_back_spread(tmp_path: Path) -> None:
    """A server that ends says goodbye to each watch, with a delay, and is gone at once."""
    with fleet_server(tmp_path / "data") as server:
        publish(server.operator(), FIRST)
        watches = []
        for number in range(5):
            device = server.device(f"cam-{number}")
            device.check_in()
            watches.append(device.stub.Watch(delivery.WatchRequest(), timeout=60))
        wait_until(
            lambda: all(server.serving.wakeups.watched(f"device cam-{one}") for one in range(5))
        )
        began = time.monotonic()
        server.end()
        for watch in watches:
            events = list(watch)
            assert [event.goodbye for event in events] == [True]
            assert 0 <= events[0].reconnect_s <= server.config.reconnect_cap_s
        server.stop()
        assert time.monotonic() - began < 4  # the grace is 5 s, which watches must not use up


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    """Versions, devices, assignments and deltas are there after a restart, and not built again."""
    with fleet_server(tmp_path / "data") as server:
        publish(server.operator(), FIRST)
        device = server.device("cam-1")
        device.check_in()
        made = server.operator().CreateRollout(
            fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
        )
        wait_for_rollout(server.operator(), made.rollout, "running")
    with fleet_server(tmp_path / "data") as server:
        again = server.device("cam-1")
        assigned = again.check_in()
        assert assigned is not None
        assert assigned.counter == 1
        plan = again.plan(FIRST.artifact)
        assert server.builder.builds_started == 0
        assert len(again.fetch(plan.steps[0].delta)) == plan.steps[0].delta_bytes
        again.commit()
        wait_for_rollout(server.operator(), made.rollout, "done")


def test_bytes_that_nothing_speaks_of_go(tmp_path: Path) -> None:
    """A blob whose process was killed before its row is removed at the next start; a blob
    with a row stays."""
    blobs = tmp_path / "data" / "objects" / "blobs"
    with fleet_server(tmp_path / "data") as server:
        publish(server.operator(), FIRST)
    kept = {path.name for path in blobs.rglob("*") if path.is_file()}
    (blobs / "ab").mkdir(exist_ok=True)
    (blobs / "ab" / ("ab" * 32)).write_bytes(b"orphan")
    with fleet_server(tmp_path / "data") as server:
        assert {path.name for path in blobs.rglob("*") if path.is_file()} == kept
        digest = FIRST.manifest.files[0].digest.raw
        assert server.device("cam-1").fetch(digest) == FIRST.files["m.bin"]


def test_c43_a_rollout_that_was_building_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends in the middle of building takes the rollout up at its next start."""

    async def never(*_: object, **__: object) -> None:
        import asyncio

        await asyncio.Event().wait()

    with fleet_server(tmp_path / "data") as server:
        publish(server.operator(), FIRST)
        server.device("cam-1").check_in()
        with monkeypatch.context() as patched:
            patched.setattr(server.builder, "build", never)
            made = server.operator().CreateRollout(
                fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
            )
            server.stop()
    with fleet_server(tmp_path / "data") as server:
        found = wait_for_rollout(server.operator(), made.rollout, "running")
        assert found.devices[0].state == "assigned"


def test_a_defect_while_building_ends_the_rollout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even a defect of ours leaves no rollout building for ever."""

    async def broken(*_: object, **__: object) -> None:
        raise LookupError("a defect")

    with fleet_server(tmp_path / "data") as server:
        publish(server.operator(), FIRST)
        server.device("cam-1").check_in()
        monkeypatch.setattr(server.builder, "build", broken)
        made = server.operator().CreateRollout(
            fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
        )
        done = wait_for_rollout(server.operator(), made.rollout, "done")
    assert (done.devices[0].state, done.devices[0].reason) == ("failed", "Defect")
    assert "LookupError: a defect" in done.devices[0].message
    assert "LookupError" in caplog.text


def test_killed_in_the_middle_of_a_publish(tmp_path: Path) -> None:
    """After SIGKILL during a publish the catalog has nothing of it; publishing again works."""
    big = make_artifact({"m.bin": noise(40_000_000, "kill")}, version="2.0.0")
    command = distributor(tmp_path / "data", tmp_path / "log")
    stub, _, channels = _stubs(command)
    try:

        def until_killed() -> Iterator[fleet.PublishRequest]:
            parts = list(publish_parts(big))
            # obstore gathers 10 MiB before it writes; half of the file is more.
            yield from parts[: len(parts) // 2]
            staging = tmp_path / "data" / "objects" / "staging"
            wait_until(lambda: any(path.is_file() for path in staging.rglob("*")))
            command.kill()
            yield from parts[len(parts) // 2 :]

        with pytest.raises(grpc.RpcError):
            stub.Publish(until_killed(), timeout=60)
    finally:
        command.kill()
        for channel in channels:
            channel.close()
    objects = tmp_path / "data" / "objects"
    assert [path for path in (objects / "staging").rglob("*") if path.is_file()]
    with fleet_server(tmp_path / "data") as server:
        assert not [path for path in objects.rglob("*") if path.is_file()]
        assert not server.operator().ListModels(fleet.ListModelsRequest(), timeout=30).artifacts
        assert publish(server.operator(), big).created


def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    """Events, labels and versions that were answered for are there after SIGKILL at once."""
    command = distributor(tmp_path / "data", tmp_path / "log")
    stub, device, channels = _stubs(command)
    try:
        publish(stub, FIRST)
        device.check_in()
        put = fleet.LabelDeviceRequest(device="cam-1", set={"site": "berlin"})
        stub.LabelDevice(put, timeout=30)
        made = stub.CreateRollout(
            fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
        )
        wait_for_rollout(stub, made.rollout, "running")
        device.check_in()
        events = [device.event_of(one, "fetching") for one in range(1, 40)]
        assert device.send(*events) == 39
        command.kill()
    finally:
        command.kill()
        for channel in channels:
            channel.close()
    with fleet_server(tmp_path / "data") as server:
        again = server.device("cam-1")
        again.counter, again.assignment = device.counter, device.assignment
        assert again.check_in() is None
        assert again.send(*events) == 39
        found = server.operator().GetRollout(
            fleet.GetRolloutRequest(rollout=made.rollout), timeout=30
        )
        assert (found.state, found.devices[0].state) == ("running", "fetching")
        listed = server.operator().ListDevices(fleet.ListDevicesRequest(), timeout=30).devices
        assert dict(listed[0].labels) == {"site": "berlin"}
        assert again.send(again.event_of(40, "committed")) == 40
        wait_for_rollout(server.operator(), made.rollout, "done")


def test_many_devices_at_once(tmp_path: Path) -> None:
    """Twenty devices that check in, report and fetch at the same time all get their answers."""
    with fleet_server(tmp_path / "data") as server:
        publish(server.operator(), FIRST)
        devices = [server.device(f"cam-{number}") for number in range(20)]
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(ScriptedDevice.check_in, devices))
            made = server.operator().CreateRollout(
                fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
            )
            wait_for_rollout(server.operator(), made.rollout, "running")

            def live(device: ScriptedDevice) -> int:
                assert device.check_in() is not None
                step = device.plan(FIRST.artifact).steps[0]
                assert len(device.fetch(step.delta)) == step.delta_bytes
                for state in ("planned", "fetching", "proved", "tried", "switched"):
                    device.report(state)
                device.commit()
                device.check_in()
                return device.event

            assert list(pool.map(live, devices)) == [6] * 20
        done = wait_for_rollout(server.operator(), made.rollout, "done")
        assert {row.state for row in done.devices} == {"committed"}
        assert server.builder.builds_started == 1


def test_killed_while_it_builds(tmp_path: Path) -> None:
    """SIGKILL of the server takes its workers along; the next start finishes the rollout."""
    command = distributor(tmp_path / "data", tmp_path / "log")
    big = make_artifact({"m.bin": noise(8_000_000, "build")})
    stub, device, channels = _stubs(command)
    try:
        publish(stub, big)
        device.check_in()
        made = stub.CreateRollout(
            fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
        )
        worker = command.child("spawn_main")
    finally:
        command.kill()
        for channel in channels:
            channel.close()
    wait_until(lambda: not worker.is_running() or worker.status() == "zombie")
    with fleet_server(tmp_path / "data") as server:
        found = wait_for_rollout(server.operator(), made.rollout, "running")
        assert found.devices[0].state == "assigned"


@pytest.mark.processes_measured
def test_a_real_process_from_start_to_end(tmp_path: Path) -> None:
    """The command serves, says where, and ends with 0 on SIGTERM, quietly, leaving no process."""
    command = distributor(tmp_path / "data", tmp_path / "log", "--build-workers", "1")
    stub, device, channels = _stubs(command)
    try:
        assert command.ready["pid"] == command.process.pid
        publish(stub, FIRST)
        device.check_in()
        made = stub.CreateRollout(
            fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
        )
        wait_for_rollout(stub, made.rollout, "running")
        assert device.check_in() is not None
        assert device.fetch(device.plan(FIRST.artifact).steps[0].delta)
    finally:
        for channel in channels:
            channel.close()
        code = command.stop()
    assert code == 0
    assert "Traceback" not in command.said()
