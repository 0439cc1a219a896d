"""What devices ask: check in, watch, plan, fetch, report."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from distributor.services import delivery as delivery_service
from edge_sdk.base import (
    Digest,
    EdgeError,
    FormatError,
    NotFoundError,
    RefusedError,
    UnavailableError,
    UsageError,
)
from edge_sdk.delta import FORMAT_VERSION, METHODS, apply, inspect
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.rpc import typed_errors
from tests.support.artifacts import ArtifactBytes, changed, make_artifact, noise
from tests.support.fleet_server import (
    FleetServer,
    ScriptedDevice,
    fleet_server,
    publish,
    wait_for_rollout,
    wait_until,
)

BASE = noise(300_000)
FIRST = make_artifact({"m.bin": BASE, "text/labels.txt": b"0 1"})
SECOND = make_artifact(
    {"m.bin": changed(BASE), "text/labels.txt": b"0 1 2"}, version="2.0.0", parent="1.0.0"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    with fleet_server(tmp_path_factory.mktemp("delivery") / "data") as one:
        publish(one.operator(), FIRST)
        publish(one.operator(), SECOND)
        yield one


def _roll_out(server: FleetServer, device: str, version: str) -> fleet.Rollout:
    request = fleet.RolloutRequest(
        model="team/digits", version=version, cohort=fleet.Cohort(devices=[device])
    )
    made = server.operator().CreateRollout(request, timeout=30)
    return wait_for_rollout(server.operator(), made.rollout, "running", "done")


def _write(artifact: ArtifactBytes, folder: Path) -> Path:
    for path, data in artifact.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def _follow(device: ScriptedDevice, plan: delivery.PlanResponse, folder: Path) -> Path:
    """Fetches and applies the steps of a plan from nothing or from FIRST; the last folder."""
    at: Path | None = None
    for number, step in enumerate(plan.steps):
        if step.source_artifact == FIRST.artifact.raw and at is None:
            at = _write(FIRST, folder / "held")
        delta = folder / f"delta-{number}"
        delta.write_bytes(device.fetch(step.delta))
        assert delta.stat().st_size == step.delta_bytes
        out = folder / f"step-{number}"
        apply(at, delta, out)
        at = out
    assert at is not None
    return at


def _same(artifact: ArtifactBytes, folder: Path) -> bool:
    found = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return found == dict(artifact.files)


def test_the_whole_way(server: FleetServer, tmp_path: Path) -> None:
    """A device with nothing gets the whole, then a small delta, and both make the artifact."""
    device = server.device("cam-way")
    assert device.check_in() is None
    made = _roll_out(server, "cam-way", "1.0.0")
    assigned = device.check_in()
    assert assigned is not None
    assert [one.artifact for one in assigned.models] == [FIRST.artifact]
    assert device.check_in() is None
    plan = device.plan(FIRST.artifact)
    assert [step.source_artifact for step in plan.steps] == [b""]
    assert plan.steps[0].target_manifest == FIRST.document
    assert plan.whole_bytes == plan.steps[0].delta_bytes == made.devices[0].wire_bytes
    assert _same(FIRST, _follow(device, plan, tmp_path / "first"))
    device.commit(wire_bytes=str(plan.whole_bytes))
    assert wait_for_rollout(server.operator(), made.rollout, "done").devices[0].wire_bytes > 0
    device.check_in()

    made = _roll_out(server, "cam-way", "2.0.0")
    assert 0 < made.devices[0].wire_bytes < made.devices[0].whole_bytes / 10
    assigned = device.check_in()
    assert assigned is not None
    assert assigned.counter == 2
    plan = device.plan(SECOND.artifact, FIRST.artifact)
    assert [step.source_artifact for step in plan.steps] == [FIRST.artifact.raw]
    assert _same(SECOND, _follow(device, plan, tmp_path / "second"))


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path) -> None:
    for name in ("first", "second", "only"):
        (tmp_path / name).mkdir()


def test_only_methods_that_the_device_knows(server: FleetServer, tmp_path: Path) -> None:
    """A device of last year, which knows copy and literal alone, gets just these."""
    device = server.device("cam-old", methods=("copy", "literal"))
    device.check_in()
    for target, sources in ((FIRST, ()), (SECOND, (FIRST.artifact,))):
        plan = device.plan(target.artifact, *sources)
        for number, step in enumerate(plan.steps):
            path = tmp_path / f"{number}.delta"
            path.write_bytes(device.fetch(step.delta))
            used = set(inspect(path).methods) & set(METHODS)
            assert used <= {"copy", "literal"}
    assert _same(SECOND, _follow(device, plan, tmp_path / "only"))


def test_methods_of_tomorrow_are_harmless(server: FleetServer) -> None:
    """A device that knows methods which this release does not gets what both know."""
    device = server.device("cam-new", methods=(*METHODS, "tomorrow"), versions=(FORMAT_VERSION, 9))
    device.check_in()
    assert device.plan(FIRST.artifact).steps


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"versions": (9,)}, f"delta format {FORMAT_VERSION}"),
        ({"methods": ("tomorrow",)}, "the method"),
        ({"decoder_memory_bytes": 1}, "bytes of memory"),
    ],
)
def test_what_a_device_cannot_decode_is_not_planned(
    server: FleetServer, facts: dict[str, object], text: str
) -> None:
    """No format, method or memory in common: a refusal that says which."""
    able = server.device("cam-able")
    able.check_in()
    able.plan(FIRST.artifact)  # so that a delta is there, which must not be offered
    name = f"cam-{len(text)}-{next(iter(facts)).replace('_', '-')}"
    device = server.device(name, **facts)
    device.check_in()
    with pytest.raises((RefusedError, EdgeError), match=text), typed_errors("the distributor"):
        device.plan(FIRST.artifact)


def test_room_on_disk_is_the_devices_own_matter(server: FleetServer) -> None:
    """A device that said it had no room gets its plan: it knows best what it has now, and
    names what is missing itself."""
    device = server.device("cam-full", disk_free_bytes=10)
    device.check_in()
    assert device.plan(FIRST.artifact).steps


def test_nothing_to_do(server: FleetServer) -> None:
    """A device that holds the target needs no step."""
    device = server.device("cam-there")
    device.check_in()
    assert list(device.plan(FIRST.artifact, FIRST.artifact).steps) == []


def test_strange_sources_are_passed_over(server: FleetServer) -> None:
    """A source that the catalog does not know is no source; an unknown target is an error."""
    device = server.device("cam-strange")
    device.check_in()
    plan = device.plan(FIRST.artifact, Digest.of(b"homemade"))
    assert [step.source_artifact for step in plan.steps] == [b""]
    with pytest.raises(NotFoundError), typed_errors("the distributor"):
        device.plan(Digest.of(b"unknown"))
    with pytest.raises(FormatError), typed_errors("the distributor"):
        device.stub.Plan(delivery.PlanRequest(target_artifact=b"short"), timeout=30)


def test_one_build_for_many_devices(server: FleetServer) -> None:
    """Eight devices that ask at once for a delta that is not built cause one build each way."""
    one = make_artifact({"m.bin": noise(100_000, "many")}, model="team/many")
    two = make_artifact(
        {"m.bin": changed(one.files["m.bin"], 9_000)}, model="team/many", version="2.0.0"
    )
    publish(server.operator(), one)
    publish(server.operator(), two)
    devices = [server.device(f"cam-many-{number}") for number in range(8)]
    for device in devices:
        device.check_in()
    before = server.builder.builds_started
    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(lambda each: each.plan(two.artifact, one.artifact), devices))
    assert len({plan.steps[0].delta for plan in plans}) == 1
    assert server.builder.builds_started - before == 2  # the delta and the whole


def test_a_build_that_takes_long(tmp_path: Path) -> None:
    """Where the wait is over the device is told to ask again; later the plan is there."""
    with fleet_server(tmp_path / "data", plan_wait_s=0.0) as server:
        publish(server.operator(), FIRST)
        device = server.device("cam-1")
        device.check_in()
        with (
            pytest.raises(UnavailableError, match="being built") as busy,
            typed_errors("the distributor"),
        ):
            device.plan(FIRST.artifact)
        assert float(busy.value.facts["retry_after_s"]) > 0

        def planned() -> bool:
            try:
                with typed_errors("the distributor"):
                    return bool(device.plan(FIRST.artifact).steps)
            except UnavailableError:
                return False

        wait_until(planned)
        assert server.builder.builds_started == 1


def test_ranges(server: FleetServer) -> None:
    """Any range of a blob is served, in frames that say where they belong."""
    device = server.device("cam-range")
    big = make_artifact({"m.bin": noise(2_300_000, "range")}, model="team/range")
    publish(server.operator(), big)
    entry, data = big.manifest.files[0], big.files["m.bin"]
    assert device.fetch(entry.digest.raw) == data
    assert device.fetch(entry.digest.raw, offset=1_048_570, length=20) == data[1_048_570:1_048_590]
    assert device.fetch(entry.digest.raw, offset=2_000_001) == data[2_000_001:]
    assert device.fetch(entry.digest.raw, offset=len(data)) == b""


def test_ranges_that_are_not_there(server: FleetServer) -> None:
    """An offset or length beyond the end, and an unknown digest, are refused by name."""
    device = server.device("cam-beyond")
    digest = FIRST.manifest.files[0].digest.raw
    for offset, length in ((300_001, 0), (0, 300_001), (299_999, 2), (2**60, 1), (1, 2**63)):
        with pytest.raises(UsageError), typed_errors("the distributor"):
            device.fetch(digest, offset=offset, length=length)
    with pytest.raises(NotFoundError), typed_errors("the distributor"):
        device.fetch(Digest.of(b"unknown").raw)
    with pytest.raises(FormatError), typed_errors("the distributor"):
        device.fetch(b"")


def test_c56_a_stalled_reader_holds_only_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one download allowed a second is told to come back; it works once the first ends."""
    monkeypatch.setattr(delivery_service, "_FETCH_SLOT_WAIT_S", 0.2)
    big = make_artifact({"m.bin": noise(40 << 20, "stall")}, model="team/stall")
    with fleet_server(tmp_path / "data", fetches_max=1) as server:
        publish(server.operator(), big)
        request = delivery.FetchRequest(digest=big.manifest.files[0].digest.raw)
        slow = server.device("slow").stub.Fetch(request, timeout=60)
        next(iter(slow))  # and then reads no more
        other = server.device("other")
        with pytest.raises(UnavailableError, match="under way"), typed_errors("the distributor"):
            other.fetch(request.digest, length=10)
        slow.cancel()
        with pytest.raises(grpc.RpcError):
            list(slow)

        def served() -> bool:
            try:
                return len(other.fetch(request.digest, length=10)) == 10
            except grpc.RpcError:
                return False

        wait_until(served)


def test_watch_wakes(server: FleetServer) -> None:
    """A watch says the newest counter at once, and again as soon as a rollout assigns more."""
    device = server.device("cam-watch")
    device.check_in()
    heard: list[int] = []
    watch = device.stub.Watch(delivery.WatchRequest(assignment_counter=0), timeout=60)

    def listen() -> None:
        try:
            heard.extend(event.assignment_counter for event in watch)
        except grpc.RpcError:
            return

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        wait_until(lambda: server.serving.wakeups.watched("device cam-watch"))
        _roll_out(server, "cam-watch", "1.0.0")
        wait_until(lambda: heard == [1])
        _roll_out(server, "cam-watch", "2.0.0")
        wait_until(lambda: heard == [1, 2])
    finally:
        watch.cancel()
        listener.join()
    late = device.stub.Watch(delivery.WatchRequest(assignment_counter=1), timeout=60)
    assert next(iter(late)).assignment_counter == 2
    late.cancel()


def test_watch_before_the_first_check_in(server: FleetServer) -> None:
    """Who never checked in has nothing to watch."""
    device = server.device("cam-ghost")
    with pytest.raises(NotFoundError), typed_errors("the distributor"):
        list(device.stub.Watch(delivery.WatchRequest(), timeout=30))


def test_reports_are_acknowledged_once_stored(server: FleetServer) -> None:
    """Events are acknowledged up to the newest; what came before is ignored; nothing is lost."""
    device = server.device("cam-report")
    device.check_in()
    made = _roll_out(server, "cam-report", "1.0.0")
    device.check_in()
    events = [
        device.event_of(1, "fetching"),
        device.event_of(2, "proved", wire_bytes="123"),
        device.event_of(3, "failed", reason="GoldenMismatch", message="output differs"),
    ]
    assert device.send(*events[:2]) == 2
    assert device.send(*events) == 3
    assert device.send(*events) == 3
    assert device.send() == 3
    row = wait_for_rollout(server.operator(), made.rollout, "done").devices[0]
    assert (row.state, row.reason, row.message) == ("failed", "GoldenMismatch", "output differs")
    assert (row.wire_bytes, dict(row.facts)) == (123, {"wire_bytes": "123"})


def test_reports_that_cannot_be_read(server: FleetServer) -> None:
    """Numbers out of range and half a digest are refused; odd text is cleaned and stored."""
    device = server.device("cam-odd")
    device.check_in()
    for event in (
        delivery.Event(number=2**63),
        delivery.Event(number=1, attempt=2**60),
        delivery.Event(number=1, artifact=b"half"),
    ):
        with pytest.raises((UsageError, FormatError)), typed_errors("the distributor"):
            device.send(event)
    odd = delivery.Event(number=1, state="x" * 9_999, message="nul\0" * 9_999, model="?" * 999)
    assert device.send(odd) == 1
    many = [delivery.Event(number=one) for one in range(1, 10_002)]
    with pytest.raises(UsageError, match="at most"), typed_errors("the distributor"):
        device.send(*many)


def test_check_ins_that_cannot_be_read(server: FleetServer) -> None:
    """A bad label, name or digest in a check-in is refused and registers nobody."""
    device = server.device("cam-bad")
    bad = [
        delivery.CheckInRequest(labels={"Not A Key": "x"}),
        delivery.CheckInRequest(labels={f"k{number}": "" for number in range(100)}),
        delivery.CheckInRequest(held_artifacts=[b"short"]),
        delivery.CheckInRequest(models=[delivery.ModelReport(model="nameless")]),
        delivery.CheckInRequest(assignment_counter=2**63),
    ]
    for request in bad:
        with pytest.raises((UsageError, FormatError)), typed_errors("the distributor"):
            device.stub.CheckIn(request, timeout=30)
    listed = server.operator().ListDevices(fleet.ListDevicesRequest(), timeout=30)
    assert "cam-bad" not in {one.device for one in listed.devices}


def test_a_bare_check_in_is_enough(server: FleetServer) -> None:
    """A device that says nothing of itself is registered, and told when to come again."""
    device = server.device("cam-bare")
    answer = device.stub.CheckIn(delivery.CheckInRequest(), timeout=30)
    assert answer.assignment == b""
    assert answer.next_check_in_s == server.config.check_in_s


def test_two_hops(server: FleetServer, tmp_path: Path) -> None:
    """Where two small deltas through a version between cost less than the whole, both are
    planned, and following them makes the target."""
    third = make_artifact(
        {"m.bin": changed(changed(BASE), 70_000), "text/labels.txt": b"three"},
        version="3.0.0",
        parent="2.0.0",
    )
    publish(server.operator(), third)
    newer = server.device("cam-newer")
    newer.check_in()
    newer.plan(SECOND.artifact, FIRST.artifact)
    newer.plan(third.artifact, SECOND.artifact)
    older = replace(server.device("cam-older"), methods=METHODS)
    older.check_in()
    plan = older.plan(third.artifact, FIRST.artifact)
    assert 1 <= len(plan.steps) <= 2
    assert plan.steps[0].source_artifact == FIRST.artifact.raw
    assert _same(third, _follow(older, plan, tmp_path / "only"))


def test_a_delta_that_rots_here_is_built_again(tmp_path: Path) -> None:
    """A device that could not use what it got says so; damage on this side is then mended."""
    with fleet_server(tmp_path / "data") as server:
        publish(server.operator(), FIRST)
        device = server.device("cam-1")
        device.check_in()
        _roll_out(server, "cam-1", "1.0.0")
        device.check_in()
        step = device.plan(FIRST.artifact).steps[0]
        name = step.delta.hex()
        blob = server.config.data / "objects" / "blobs" / name[:2] / name
        honest = blob.read_bytes()
        blob.chmod(0o644)
        blob.write_bytes(honest[:-1] + b"?")
        assert device.fetch(step.delta) != honest
        device.report("planned", reason="DeltaError", message="a record is damaged")

        def mended() -> bool:
            device.plan(FIRST.artifact)
            return blob.read_bytes() == honest

        wait_until(mended)
        assert device.fetch(step.delta) == honest
        assert server.builder.builds_started == 2


def test_what_was_committed_is_a_source_at_once(server: FleetServer) -> None:
    """A rollout right after a commit builds from it, also before the next check-in."""
    device = server.device("cam-quick")
    device.check_in()
    _roll_out(server, "cam-quick", "1.0.0")
    device.check_in()
    device.report("committed")
    row = _roll_out(server, "cam-quick", "2.0.0").devices[0]
    assert 0 < row.wire_bytes < row.whole_bytes / 10
    listed = server.operator().ListDevices(fleet.ListDevicesRequest(), timeout=30).devices
    shown = next(one for one in listed if one.device == "cam-quick").models[0]
    assert (shown.running_version, shown.assigned_version) == ("1.0.0", "2.0.0")


def test_a_delta_that_goes_before_it_is_fetched(tmp_path: Path) -> None:
    """Where room was made between plan and fetch, the fetch says that there is none, and the
    next plan has the delta built again: a device that asks anew comes to its version."""
    with fleet_server(tmp_path / "data") as server:
        publish(server.operator(), FIRST)
        publish(server.operator(), SECOND)
        keeper = server.serving.keeper
        keeper.asked_s = 0.0  # as if it had waited for long
        device = server.device("cam-slow")
        device.check_in()
        planned = device.plan(SECOND.artifact, FIRST.artifact)
        (step,) = planned.steps
        builds = server.builder.builds_started
        assert server.run(keeper.free(1 << 40)) >= step.delta_bytes
        with pytest.raises(NotFoundError), typed_errors("the distributor"):
            device.fetch(step.delta)
        assert device.plan(SECOND.artifact, FIRST.artifact) == planned
        assert server.builder.builds_started == 2 * builds
        assert len(device.fetch(step.delta)) == step.delta_bytes
