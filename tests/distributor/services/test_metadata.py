"""Signed metadata on both listeners: what devices and operators may ask, and what is signed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from distributor.services import metadata as services
from distributor.services.metadata import Renewal
from distributor.signing import OnlineKeys
from edge_sdk import trust
from edge_sdk.base import (
    ConflictError,
    EdgeError,
    FormatError,
    NotFoundError,
    RefusedError,
)
from edge_sdk.fleet import Draft, Fleet, KeyFolder
from edge_sdk.manifest import encode_assignment
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos import metadata_v1_pb2 as metadata
from edge_sdk.protos.metadata_v1_pb2_grpc import MetadataServiceStub
from edge_sdk.rpc import Credentials, open_channel, typed_errors
from tests.support.catalog import open_catalog
from tests.support.fleet_server import FleetServer, fleet_server, wait_for_rollout
from tests.support.proxy import Proxy
from tests.support.signed_fleet import first_keys
from tests.support.signing import Signing


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FleetServer]:
    with fleet_server(tmp_path / "data") as one:
        yield one


@pytest.fixture
def keys(server: FleetServer, tmp_path: Path) -> KeyFolder:
    return first_keys(server.serving.operator_address, tmp_path / "keys", "team")


@pytest.fixture
def device_stub(server: FleetServer) -> Iterator[MetadataServiceStub]:
    with open_channel(server.serving.device_address, Credentials(device="gate-1")) as channel:
        yield MetadataServiceStub(channel)


def get(stub: MetadataServiceStub, name: str) -> bytes:
    with typed_errors("the distributor"):
        frames = list(stub.Get(metadata.GetRequest(name=name), timeout=30))
    assert all(0 < len(one.data) <= 64 << 10 for one in frames)
    return b"".join(one.data for one in frames)


def publish_file(server: FleetServer, keys: KeyFolder | None, file: Path, version: str) -> None:
    draft = Draft(model="team/digits", version=version, variant="fp32")
    with Fleet(server.serving.operator_address, operator="tester", keys=keys) as operator:
        operator.publish(file, draft)


def test_before_there_are_any(device_stub: MetadataServiceStub) -> None:
    """A distributor without signed metadata has no file of them; odd names are refused."""
    with pytest.raises(NotFoundError, match=r"no metadata file timestamp\.json"):
        get(device_stub, "timestamp.json")
    for name in ("", "root.json", "../../etc/passwd", "1.root.json\n", "x" * 300):
        with pytest.raises(FormatError):
            get(device_stub, name)


def test_devices_and_operators_get_the_same(
    server: FleetServer, keys: KeyFolder, device_stub: MetadataServiceStub
) -> None:
    """Both listeners serve each file under its name, byte for byte."""
    names = ("timestamp.json", "1.root.json", "1.snapshot.json", "1.targets.json", "1.ns_team.json")
    with Fleet(server.serving.operator_address, operator="tester") as operator:
        for name in names:
            assert get(device_stub, name) == operator.metadata.get(name)
    assert keys.root() == get(device_stub, "1.root.json")


def test_devices_put_nothing(keys: KeyFolder, device_stub: MetadataServiceStub) -> None:
    """The devices' listener takes no metadata, not even good ones, and shows no online keys."""
    before = get(device_stub, "timestamp.json")
    for call in (
        lambda: device_stub.Put(metadata.PutRequest(), timeout=30),
        lambda: device_stub.OnlineKeys(metadata.OnlineKeysRequest(), timeout=30),
    ):
        with pytest.raises(EdgeError, match="operators"), typed_errors("the distributor"):
            call()
    assert get(device_stub, "timestamp.json") == before


def test_a_lost_race_says_so(server: FleetServer, keys: KeyFolder) -> None:
    """What is not the very next version comes back as a conflict with role and version."""
    with Fleet(server.serving.operator_address, operator="tester") as operator:
        old = operator.metadata.get("1.ns_team.json")
        with pytest.raises(ConflictError, match="version 1 here") as lost:
            operator.metadata.put([("1.ns_team.json", old)])
    assert lost.value.facts == {"role": "ns_team", "version": "1"}


def test_online_keys(server: FleetServer, keys: KeyFolder, tmp_path: Path) -> None:
    """Operators see which keys the distributor has, and which of them are in use."""
    OnlineKeys(tmp_path / "data" / "keys").add("timestamp")
    with Fleet(server.serving.operator_address, operator="tester") as operator:
        found = [(one.role, one.in_use) for one in operator.metadata.online_keys()]
    assert found == [
        ("snapshot", True),
        ("timestamp", True),
        ("assignments", True),
        ("timestamp", False),
    ]


def test_metadata_travel_compressed(server: FleetServer, tmp_path: Path) -> None:
    """Large metadata take far fewer bytes on the wire than they have."""
    many = [f"team-{number}" for number in range(40)]
    first_keys(server.serving.operator_address, tmp_path / "keys", *many)
    with Proxy(server.serving.device_address) as proxy:
        with open_channel(proxy.address, Credentials(device="gate-1")) as channel:
            size = len(get(MetadataServiceStub(channel), "1.targets.json"))
        assert size > 10_000
        assert proxy.down_bytes < 0.6 * size


def test_only_what_is_signed_is_rolled_out(
    server: FleetServer, keys: KeyFolder, tmp_path: Path
) -> None:
    """An unsigned artifact is refused, dry and in earnest, with what to do; signed it goes."""
    device = server.device("gate-1")
    device.check_in()
    stub = server.operator()
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    publish_file(server, None, file, "1.0.0")
    request = fleet.RolloutRequest(model="team/digits", version="1.0.0")
    for call in (
        lambda: stub.CreateRollout(request, timeout=30),
        lambda: list(stub.PlanRollout(request, timeout=30)),
    ):
        with pytest.raises(RefusedError, match="not signed"), typed_errors("the distributor"):
            call()
    publish_file(server, keys, file, "1.0.0")
    made = stub.CreateRollout(request, timeout=30)
    wait_for_rollout(stub, made.rollout, "running")
    assert device.check_in() is not None


def test_a_floor_stops_rollouts_below_it(
    server: FleetServer, keys: KeyFolder, tmp_path: Path
) -> None:
    """Once a publisher signed a floor, no rollout, undo or dry run brings anything below it."""
    device = server.device("gate-1")
    device.check_in()
    stub = server.operator()
    file = tmp_path / "model.bin"
    rollouts = {}
    for version, floor in (("1.0.0", None), ("2.0.0", "2.0.0")):
        file.write_bytes(version.encode())
        draft = Draft(model="team/digits", version=version, variant="fp32", floor=floor)
        with Fleet(server.serving.operator_address, operator="tester", keys=keys) as operator:
            operator.publish(file, draft)
        made = stub.CreateRollout(
            fleet.RolloutRequest(model="team/digits", version=version), timeout=30
        )
        rollouts[version] = made.rollout
        wait_for_rollout(stub, made.rollout, "running")
        device.check_in()
        device.commit()
    for call in (
        lambda: stub.CreateRollout(
            fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
        ),
        lambda: stub.UndoRollout(fleet.UndoRolloutRequest(rollout=rollouts["2.0.0"]), timeout=30),
    ):
        with pytest.raises(RefusedError, match="the floor"), typed_errors("the distributor"):
            call()


def test_assignments_are_signed(server: FleetServer, keys: KeyFolder, tmp_path: Path) -> None:
    """A device gets its assignment sealed by the key that the verified targets name; asking
    again, it gets the same bytes."""
    device = server.device("gate-1")
    device.check_in()
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    publish_file(server, keys, file, "1.0.0")
    stub = server.operator()
    made = stub.CreateRollout(
        fleet.RolloutRequest(model="team/digits", version="1.0.0"), timeout=30
    )
    wait_for_rollout(stub, made.rollout, "running")
    assignment = device.check_in()
    assert assignment is not None
    with Fleet(server.serving.operator_address, operator="tester") as operator:
        targets = operator.metadata.repository(keys).targets
    payload = trust.open_assignment(device.received, targets.signed)
    assert payload == encode_assignment(assignment)
    first = device.received
    device.counter = 0
    device.check_in()
    assert device.received == first


def test_it_renews_when_it_starts_and_survives_what_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An overdue timestamp is signed at once; a key that is lost is said in the log, and the
    distributor goes on; what is due is signed once the key is back."""
    with open_catalog(tmp_path) as catalog:
        signed = Signing(catalog, tmp_path)
        signed.later(hours=-5)
        signed.begin("team")
        old = signed.held("timestamp")
        _start_and_end(Renewal(catalog.database, signed.keys))
        first = signed.held("timestamp")
        assert first != old
        _start_and_end(Renewal(catalog.database, signed.keys))
        assert signed.held("timestamp") == first, "it was not due again"
        later = services.now() + timedelta(hours=2)
        monkeypatch.setattr(services, "now", lambda: later)
        lost = (tmp_path / "keys" / "online.json").rename(tmp_path / "lost")
        _start_and_end(Renewal(catalog.database, signed.keys))
        assert "cannot be signed again" in caplog.text
        assert signed.held("timestamp") == first
        lost.rename(tmp_path / "keys" / "online.json")
        _start_and_end(Renewal(catalog.database, signed.keys))
        assert signed.held("timestamp") != first


def _start_and_end(renewal: Renewal) -> None:
    async def both() -> None:
        await renewal.start()
        await renewal.close()

    asyncio.run(both())
