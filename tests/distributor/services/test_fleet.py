"""What operators ask: devices, labels, explanations, rollouts and their watching."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest

from edge_sdk.base import FormatError, NotFoundError, RefusedError, UsageError
from edge_sdk.manifest import Requirements
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos.fleet_v1_pb2_grpc import FleetServiceStub
from edge_sdk.rpc import typed_errors
from tests.support.artifacts import changed, make_artifact, noise
from tests.support.fleet_server import (
    FleetServer,
    ScriptedDevice,
    fleet_server,
    publish,
    wait_for_rollout,
    wait_until,
)

BASE = noise(120_000, "fleet")
FIRST = make_artifact({"m.bin": BASE})
SECOND = make_artifact({"m.bin": changed(BASE, 9_000)}, version="2.0.0", parent="1.0.0")
SMALL = make_artifact({"m.bin": b"small"}, model="team/small")
ARM = make_artifact(
    {"m.bin": b"arm"}, model="team/arm", requires=Requirements(architectures=("aarch64",))
)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    with fleet_server(tmp_path_factory.mktemp("fleet") / "data") as one:
        for artifact in (FIRST, SECOND, ARM):
            publish(one.operator(), artifact)
        yield one


def _create(
    stub: FleetServiceStub, version: str, *names: str, model: str = "team/digits", **more: object
) -> fleet.Rollout:
    request = fleet.RolloutRequest(
        model=model, version=version, cohort=fleet.Cohort(devices=names), **more
    )
    return stub.CreateRollout(request, timeout=30)


def _settle(server: FleetServer, device: ScriptedDevice, version: str) -> fleet.Rollout:
    """Rolls a version out to the device, which commits it."""
    stub = server.operator()
    made = _create(stub, version, device.name)
    wait_for_rollout(stub, made.rollout, "running")
    device.check_in()
    device.commit()
    device.check_in()
    return wait_for_rollout(stub, made.rollout, "done")


def _states(rollout: fleet.Rollout) -> dict[str, str]:
    return {row.device: row.state for row in rollout.devices}


def test_c37_assigned_and_running_are_two_things(server: FleetServer) -> None:
    """A device that was assigned a version does not run it until it says so."""
    stub = server.operator()
    device = server.device("cam-1", labels={"site": "berlin"})
    device.check_in()
    _settle(server, device, "1.0.0")
    made = _create(stub, "2.0.0", "cam-1")
    wait_for_rollout(stub, made.rollout, "running")
    found = stub.ListDevices(fleet.ListDevicesRequest(), timeout=30).devices[0]
    assert (found.device, found.online, dict(found.labels)) == ("cam-1", True, {"site": "berlin"})
    model = found.models[0]
    assert (model.assigned_version, model.running_version) == ("2.0.0", "1.0.0")
    assert (model.assigned_artifact, model.running_artifact) == (
        SECOND.artifact.raw,
        FIRST.artifact.raw,
    )


def test_labels(server: FleetServer) -> None:
    """Operators label devices and list them by label."""
    stub = server.operator()
    for name in ("a", "b"):
        server.device(name, labels={"site": "berlin"}).check_in()
    put = fleet.LabelDeviceRequest(device="b", set={"tier": "test"}, remove=["site"])
    assert dict(stub.LabelDevice(put, timeout=30).labels) == {"tier": "test"}
    for selector, names in (("", ["a", "b"]), ("site=berlin", ["a"]), ("!site", ["b"])):
        listed = stub.ListDevices(fleet.ListDevicesRequest(selector=selector), timeout=30)
        assert [one.device for one in listed.devices] == names
    with pytest.raises(UsageError), typed_errors("the distributor"):
        stub.ListDevices(fleet.ListDevicesRequest(selector="a,,b"), timeout=30)
    with pytest.raises(NotFoundError), typed_errors("the distributor"):
        stub.LabelDevice(fleet.LabelDeviceRequest(device="ghost"), timeout=30)


def test_explain(server: FleetServer) -> None:
    """Every variant gets a verdict with its reasons."""
    stub = server.operator()
    device = server.device("cam-1")
    device.check_in()
    asked = fleet.ExplainDeviceRequest(device="cam-1", model="team/arm", version="1.0.0")
    answer = stub.ExplainDevice(asked, timeout=30)
    assert answer.device.device == "cam-1"
    assert [(one.variant, one.fits, one.chosen) for one in answer.verdicts] == [
        ("fp32", False, False)
    ]
    assert "aarch64" in answer.verdicts[0].reasons[0]
    assert not stub.ExplainDevice(fleet.ExplainDeviceRequest(device="cam-1"), timeout=30).verdicts
    _settle(server, device, "1.0.0")
    for asked in (
        fleet.ExplainDeviceRequest(device="cam-1"),
        fleet.ExplainDeviceRequest(device="cam-1", model="team/digits"),
    ):
        verdicts = stub.ExplainDevice(asked, timeout=30).verdicts
        assert [(one.version, one.chosen) for one in verdicts] == [("1.0.0", True)]


def test_explain_refuses(server: FleetServer) -> None:
    """A version without model, an unassigned model, an unknown device: each has its error."""
    stub = server.operator()
    server.device("cam-1").check_in()
    cases = [
        (UsageError, fleet.ExplainDeviceRequest(device="cam-1", version="1.0.0")),
        (NotFoundError, fleet.ExplainDeviceRequest(device="cam-1", model="team/digits")),
        (NotFoundError, fleet.ExplainDeviceRequest(device="ghost")),
        (FormatError, fleet.ExplainDeviceRequest(device="cam-1", model="x")),
    ]
    for error, request in cases:
        with pytest.raises(error), typed_errors("the distributor"):
            stub.ExplainDevice(request, timeout=30)


def test_c19_a_dry_run_shows_bytes_and_assigns_nothing(server: FleetServer) -> None:
    """Planning a rollout says what each device would get, in bytes, and who gets none and why."""
    stub = server.operator()
    device = server.device("cam-1")
    device.check_in()
    _settle(server, device, "1.0.0")
    fresh = server.device("cam-2")
    fresh.check_in()
    request = fleet.RolloutRequest(model="team/digits", version="2.0.0")
    messages = list(stub.PlanRollout(request, timeout=60))
    assert (messages[-1].deltas_done, messages[-1].deltas_total) == (2, 2)
    first, second = messages[-1].devices
    assert (first.device, first.source_artifact) == ("cam-1", FIRST.artifact.raw)
    assert 0 < first.wire_bytes < first.whole_bytes == second.wire_bytes
    assert (second.source_artifact, second.variant) == (b"", "fp32")
    assert "holds no version" in second.reason
    assert len(stub.ListRollouts(fleet.ListRolloutsRequest(), timeout=30).rollouts) == 1
    assert device.check_in() is None

    request = fleet.RolloutRequest(model="team/arm", version="1.0.0")
    planned = list(stub.PlanRollout(request, timeout=60))[-1].devices
    assert [(one.variant, one.artifact, one.wire_bytes) for one in planned] == [("", b"", 0)] * 2
    assert all("aarch64" in one.reason for one in planned)
    with pytest.raises(NotFoundError), typed_errors("the distributor"):
        list(stub.PlanRollout(fleet.RolloutRequest(model="team/digits", version="9.0.0")))


def test_what_one_of_a_group_lacks_keeps_all(server: FleetServer) -> None:
    """Plan and rollout agree: a device that one model of a group does not fit, or has no room
    for, gets none of them, and each row says why."""
    stub = server.operator()
    publish(stub, SMALL)
    roomy, full = server.device("cam-1"), server.device("cam-2")
    full.disk_free_bytes = 60_000
    roomy.check_in()
    full.check_in()
    request = fleet.RolloutRequest(model="team/small", version="1.0.0")
    request.together.add(model="team/digits", version="1.0.0")
    planned = {
        (one.device, one.model): one
        for one in list(stub.PlanRollout(request, timeout=60))[-1].devices
    }
    kept = planned["cam-2", "team/small"]
    assert kept.reason.startswith("team/digits 1.0.0, of the same group: ")
    assert kept.reason.endswith(planned["cam-2", "team/digits"].reason)
    assert {one.variant for (name, _), one in planned.items() if name == "cam-2"} == {""}
    assert {one.variant for (name, _), one in planned.items() if name == "cam-1"} == {"fp32"}

    made = stub.CreateRollout(request, timeout=30)
    started = wait_for_rollout(stub, made.rollout, "running")
    states = {(one.device, one.model): one.state for one in started.devices}
    assert states == {
        ("cam-1", "team/digits"): "assigned",
        ("cam-1", "team/small"): "assigned",
        ("cam-2", "team/digits"): "refused",
        ("cam-2", "team/small"): "refused",
    }
    assert (started.deltas_done, started.deltas_total) == (2, 2)
    assert full.check_in() is None
    assignment = roomy.check_in()
    assert assignment is not None
    assert [[str(model) for model in group] for group in assignment.groups] == [
        ["team/digits", "team/small"]
    ]

    request.together[0].CopyFrom(fleet.ModelVersion(model="team/arm", version="1.0.0"))
    planned_arm = list(stub.PlanRollout(request, timeout=60))[-1].devices
    assert len(planned_arm) == 4
    assert all("aarch64" in one.reason for one in planned_arm)


def test_c44_a_device_that_nothing_fits(server: FleetServer) -> None:
    """It is refused with the reason, not assigned, and the rollout ends."""
    stub = server.operator()
    device = server.device("cam-1")
    device.check_in()
    done = wait_for_rollout(stub, _create(stub, "1.0.0", model="team/arm").rollout, "done")
    row = done.devices[0]
    assert (row.state, row.reason) == ("refused", "NoVariantFitsError")
    assert "needs architecture aarch64, the device has x86_64" in row.message
    assert device.check_in() is None


def test_a_device_without_disk_is_refused_before_anything_is_sent(server: FleetServer) -> None:
    """Space is compared before the assignment."""
    stub = server.operator()
    device = server.device("cam-1", disk_free_bytes=1_000)
    device.check_in()
    done = wait_for_rollout(stub, _create(stub, "1.0.0", "cam-1").rollout, "done")
    assert done.devices[0].state == "refused"
    assert "bytes of disk" in done.devices[0].message
    assert device.check_in() is None


def test_a_blob_that_rots_fails_the_build(server: FleetServer) -> None:
    """A device whose delta cannot be built is failed, with the reason, and not assigned."""
    stub = server.operator()
    digest = str(FIRST.manifest.files[0].digest)
    blob = server.config.data / "objects" / "blobs" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(b"rot")
    device = server.device("cam-1")
    device.check_in()
    done = wait_for_rollout(stub, _create(stub, "1.0.0").rollout, "done")
    assert (done.devices[0].state, done.devices[0].reason) == ("failed", "ProofError")
    assert "damaged" in done.devices[0].message
    assert device.check_in() is None


def test_watching_a_rollout(server: FleetServer) -> None:
    """A watch shows the rollout at once and at each change, and ends with it."""
    stub = server.operator()
    device = server.device("cam-1")
    device.check_in()
    made = _create(stub, "1.0.0")
    request = fleet.GetRolloutRequest(rollout=made.rollout)
    seen: list[fleet.Rollout] = []
    watcher = threading.Thread(target=lambda: seen.extend(stub.WatchRollout(request, timeout=60)))
    watcher.start()
    wait_until(lambda: bool(seen) and seen[-1].state == "running")
    device.check_in()
    device.report("fetching")
    wait_until(lambda: _states(seen[-1]) == {"cam-1": "fetching"})
    device.commit()
    watcher.join(30)
    assert not watcher.is_alive()
    assert (seen[-1].state, _states(seen[-1])) == ("done", {"cam-1": "committed"})
    assert len({one.SerializeToString() for one in seen}) == len(seen)
    assert len(list(stub.WatchRollout(request, timeout=30))) == 1
    with pytest.raises(NotFoundError), typed_errors("the distributor"):
        list(stub.WatchRollout(fleet.GetRolloutRequest(rollout="r9"), timeout=30))


def test_abort_brings_devices_back(server: FleetServer) -> None:
    """A device that had not committed is woken with its previous assignment."""
    stub = server.operator()
    device = server.device("cam-1")
    device.check_in()
    _settle(server, device, "1.0.0")
    made = _create(stub, "2.0.0")
    wait_for_rollout(stub, made.rollout, "running")
    device.check_in()
    device.report("fetching")
    aborted = stub.AbortRollout(fleet.AbortRolloutRequest(rollout=made.rollout), timeout=30)
    assert (aborted.state, aborted.reason) == ("aborted", "aborted by alice")
    assert _states(aborted) == {"cam-1": "recalled"}
    assert "goes back to 1.0.0" in aborted.devices[0].message
    assigned = device.check_in()
    assert assigned is not None
    assert [one.artifact for one in assigned.models] == [FIRST.artifact]
    with pytest.raises(RefusedError), typed_errors("the distributor"):
        stub.AbortRollout(fleet.AbortRolloutRequest(rollout="r1"), timeout=30)


def test_undo_goes_back_without_bytes(server: FleetServer) -> None:
    """Undoing assigns what was there before, which the device still holds."""
    stub = server.operator()
    device = server.device("cam-1")
    device.check_in()
    _settle(server, device, "1.0.0")
    second = _settle(server, device, "2.0.0")
    back = stub.UndoRollout(fleet.UndoRolloutRequest(rollout=second.rollout), timeout=30)
    assert (back.undoes, back.version) == (second.rollout, "1.0.0")
    running = wait_for_rollout(stub, back.rollout, "running")
    assert running.devices[0].wire_bytes == 0
    assigned = device.check_in()
    assert assigned is not None
    assert [one.artifact for one in assigned.models] == [FIRST.artifact]
    device.commit()
    assert wait_for_rollout(stub, back.rollout, "done").state == "done"


def test_retry_raises_the_attempt(server: FleetServer) -> None:
    """A version that failed is ordered again with a higher number only by retry."""
    stub = server.operator()
    device = server.device("cam-1")
    device.check_in()
    for number, retry in ((1, False), (1, False), (2, True)):
        made = _create(stub, "1.0.0", retry=retry)
        wait_for_rollout(stub, made.rollout, "running")
        assigned = device.check_in()
        assert assigned is not None
        assert assigned.models[0].attempt == number
        device.report("failed", reason="GoldenMismatch")
        wait_for_rollout(stub, made.rollout, "done")
    listed = stub.ListRollouts(fleet.ListRolloutsRequest(model="team/digits"), timeout=30).rollouts
    assert [one.rollout for one in listed] == ["r3", "r2", "r1"]
    assert not any(one.devices for one in listed)


def test_a_device_that_is_silent_is_offline(server: FleetServer) -> None:
    """Online is who watches or checked in of late."""
    stub = server.operator()
    device = server.device("cam-1")
    device.check_in()
    object.__setattr__(server.config, "check_in_s", 0.0)
    found = stub.ListDevices(fleet.ListDevicesRequest(), timeout=30).devices[0]
    assert not found.online


def test_a_device_that_stops_is_away_at_once(server: FleetServer) -> None:
    """Who ends its watch is away, however late its check-in was, until it checks in again."""
    stub = server.operator()
    device = server.device("cam-1")

    def online() -> bool:
        return stub.ListDevices(fleet.ListDevicesRequest(), timeout=30).devices[0].online

    check_in_s = server.config.check_in_s
    device.check_in()
    object.__setattr__(server.config, "check_in_s", 0.0)  # only the watch counts
    watch = device.stub.Watch(delivery.WatchRequest(assignment_counter=0))
    wait_until(online)
    object.__setattr__(server.config, "check_in_s", check_in_s)
    watch.cancel()
    wait_until(lambda: not online())
    device.check_in()
    assert online()


def test_the_cohort_must_be_readable(server: FleetServer) -> None:
    """A device's name that is no name, or a version that is none, is refused."""
    stub = server.operator()
    server.device("cam-1").check_in()
    for request in (
        fleet.RolloutRequest(model="team/digits", version="one"),
        fleet.RolloutRequest(model="digits", version="1.0.0"),
        fleet.RolloutRequest(
            model="team/digits", version="1.0.0", cohort=fleet.Cohort(devices=["A B"])
        ),
    ):
        with pytest.raises(FormatError), typed_errors("the distributor"):
            stub.CreateRollout(request, timeout=30)
    with pytest.raises(grpc.RpcError):
        stub.GetRollout(fleet.GetRolloutRequest(), timeout=30)


def test_what_is_stored_and_why(server: FleetServer) -> None:
    """Each version and delta with its bytes and its reasons: while a rollout runs it keeps its
    deltas; the sums are those of what lies on the disk."""
    stub = server.operator()
    server.serving.keeper.asked_s = 0  # nobody has just asked for anything
    device = server.device("cam-1")
    device.check_in()
    _settle(server, device, "1.0.0")
    made = _create(stub, "2.0.0")
    wait_for_rollout(stub, made.rollout, "running")
    found = stub.ListStorage(fleet.ListStorageRequest(model="team/digits"), timeout=30)
    assert [(one.version, one.files_bytes, one.devices, one.key) for one in found.versions] == [
        ("1.0.0", len(BASE), 1, False),
        ("2.0.0", len(BASE), 0, False),
    ]
    assert found.versions[0].reasons[0] == "1 device runs it"
    assert found.versions[1].reasons[0] == f"rollout {made.rollout} brings it"
    deltas = {(one.source_version, one.target_version): one for one in found.deltas}
    assert set(deltas) == {("", "1.0.0"), ("", "2.0.0"), ("1.0.0", "2.0.0")}
    assert (deltas["", "1.0.0"].use, deltas["", "1.0.0"].could_go) == ("nothing", True)
    for pair in (("", "2.0.0"), ("1.0.0", "2.0.0")):
        assert deltas[pair].reasons[0] == f"rollout {made.rollout} needs it"
        assert not deltas[pair].could_go
    assert "1 device runs the source" in deltas["1.0.0", "2.0.0"].reasons
    saved = deltas["", "2.0.0"].size_bytes - deltas["1.0.0", "2.0.0"].size_bytes
    assert deltas["1.0.0", "2.0.0"].worth_bytes == saved
    assert found.deltas_bytes == sum(one.size_bytes for one in found.deltas)
    assert found.could_go_bytes == deltas["", "1.0.0"].size_bytes
    assert (found.files_bytes, found.budget_bytes) == (2 * len(BASE), 0)

    device.check_in()
    device.commit()
    device.check_in()
    wait_for_rollout(stub, made.rollout, "done")
    after = stub.ListStorage(fleet.ListStorageRequest(), timeout=30)
    assert after.could_go_bytes == after.deltas_bytes == found.deltas_bytes
    assert {one.model for one in after.versions} == {"team/digits", "team/arm"}
    with pytest.raises(NotFoundError, match="team/nobody"), typed_errors("the distributor"):
        stub.ListStorage(fleet.ListStorageRequest(model="team/nobody"), timeout=30)
