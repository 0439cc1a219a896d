"""The API and ``edge-fleet`` against a real distributor, with scripted devices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_sdk.base import ConflictError, NotFoundError, ProofError, UsageError
from edge_sdk.fleet import Cohort, Draft, Fleet, KeyFolder, prepare
from edge_sdk.fleet.cli import main
from tests.support.commands import Ran, run_main
from tests.support.onnx_models import mlp, save
from tests.support.signed_fleet import PASSPHRASE, first_keys

if TYPE_CHECKING:
    from tests.support.fleet_server import FleetServer, ScriptedDevice

pytestmark = pytest.mark.distributor
MODEL = "team/digits"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FleetServer]:
    from tests.support.fleet_server import fleet_server  # needs Python 3.11

    with fleet_server(tmp_path / "data") as running:
        yield running


@pytest.fixture
def keys(server: FleetServer, tmp_path: Path) -> KeyFolder:
    return first_keys(server.serving.operator_address, tmp_path / "keys", "team")


@pytest.fixture
def fleet(server: FleetServer, keys: KeyFolder) -> Iterator[Fleet]:
    with Fleet(server.serving.operator_address, operator="ada", keys=keys) as connection:
        yield connection


def folder(where: Path, seed: int) -> Path:
    """A model with external weights, labels and an empty file; seeds differ in weights only."""
    save(mlp((64, 200, 10), seed=seed), where / "net.onnx", external="weights.bin")
    (where / "labels.txt").write_bytes(b"0 1 2 3 4 5 6 7 8 9")
    (where / "empty").write_bytes(b"")
    return where


def draft(version: str, parent: str | None = None, **changes: object) -> Draft:
    return Draft(model=MODEL, version=version, parent=parent, variant="fp32", **changes)  # type: ignore[arg-type]


def a_device(server: FleetServer, name: str, **facts: object) -> ScriptedDevice:
    from edge_sdk.protos import delivery_v1_pb2 as delivery

    engine = delivery.Engine(
        name="onnxruntime", version="1.23.2", ir_version_max=11, opset_max={"": 23}
    )
    return server.device(name, **{"engines": (engine,), **facts})


def test_what_was_published_is_there(fleet: Fleet, tmp_path: Path) -> None:
    """Every file arrives, also an empty one; publishing again changes nothing; other content
    under the same name is a conflict."""
    source = folder(tmp_path / "v1", 1)
    published = fleet.publish(source, draft("1.0.0"))
    assert published.created
    assert published.sent_bytes == published.size_bytes
    again = fleet.publish(source, draft("1.0.0"))
    assert (again.created, again.sent_bytes, again.artifact) == (False, 0, published.artifact)
    (listed,) = fleet.models(MODEL)
    assert listed.artifact == published.artifact
    (source / "labels.txt").write_bytes(b"nine")
    with pytest.raises(ConflictError):
        fleet.publish(source, draft("1.0.0"))


def test_damaged_upload_is_never_published(fleet: Fleet, tmp_path: Path) -> None:
    """A file that changes between proof and upload fails the distributor's own proof."""
    source = folder(tmp_path / "v1", 1)
    prepared = prepare(source, draft("1.0.0"))
    weights = source / "weights.bin"
    data = bytearray(weights.read_bytes())
    data[1000] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ProofError, match=r"weights\.bin"):
        fleet.upload(prepared)
    assert fleet.models() == ()


def test_rollout_from_publish_to_undo(server: FleetServer, fleet: Fleet, tmp_path: Path) -> None:
    """Two versions are published, planned, rolled out, watched and undone by the API alone."""
    first = fleet.publish(folder(tmp_path / "v1", 1), draft("1.0.0"))
    device = a_device(server, "gate-7", labels={"site": "berlin"})
    device.check_in()
    one = fleet.rollout_create(MODEL, "1.0.0", Cohort(selector="site=berlin"))
    watching = fleet.rollout_watch(one.rollout, timeout_s=60)
    for seen in watching:
        if seen.state == "running":
            break
    assert device.check_in() is not None
    device.commit(wire_bytes="10")
    assert [*watching][-1].succeeded

    second = fleet.publish(folder(tmp_path / "v2", 2), draft("2.0.0", "1.0.0"))
    assert second.sent_bytes < second.size_bytes  # labels and graph were there
    device.check_in()
    counts: list[tuple[int, int]] = []
    plan = fleet.rollout_plan(MODEL, "2.0.0", progress=lambda *at: counts.append(at))
    (planned,) = plan.devices
    assert planned.artifact == second.artifact
    assert planned.source_artifact in (first.artifact, None)
    assert 0 < planned.wire_bytes <= planned.whole_bytes
    assert counts[-1][0] == counts[-1][1] > 0

    two = fleet.rollout_create(MODEL, "2.0.0")
    for seen in fleet.rollout_watch(two.rollout, timeout_s=60):
        if seen.state == "running":
            break
    assert device.check_in() is not None
    device.report("failed", reason="ProofError", message="chunk 3 differs")
    ended = [*fleet.rollout_watch(two.rollout, timeout_s=60)][-1]
    assert [one.reason for one in ended.failures] == ["ProofError"]
    assert not ended.succeeded
    undo = fleet.rollout_undo(two.rollout)
    assert undo.undoes == two.rollout
    assert {one.rollout for one in fleet.rollout_list(MODEL)} == {
        *(one.rollout, two.rollout, undo.rollout),
    }
    with pytest.raises(NotFoundError):
        fleet.rollout_status("r999")


def test_device_that_fits_nothing(server: FleetServer, fleet: Fleet, tmp_path: Path) -> None:
    """A device that no variant fits is refused with the reason, in plan, explain and rollout."""
    fleet.publish(folder(tmp_path / "v1", 1), draft("1.0.0", require=("accelerator=npu",)))
    a_device(server, "gate-7").check_in()
    (planned,) = fleet.rollout_plan(MODEL, "1.0.0").without
    assert "needs accelerator npu" in planned.reason
    (verdict,) = fleet.explain("gate-7", MODEL, "1.0.0").verdicts
    assert not verdict.fits
    rollout = fleet.rollout_create(MODEL, "1.0.0")
    ended = [*fleet.rollout_watch(rollout.rollout, timeout_s=60)][-1]
    assert [one.device for one in ended.refusals] == ["gate-7"]
    assert not ended.succeeded


def test_labels_choose_devices(server: FleetServer, fleet: Fleet) -> None:
    """Labels that an operator sets are what selectors see."""
    a_device(server, "gate-7", labels={"site": "berlin"}).check_in()
    a_device(server, "gate-8", labels={"site": "paris"}).check_in()
    fleet.label("gate-8", {"tier": "test"})
    assert [one.device for one in fleet.devices("site=berlin")] == ["gate-7"]
    assert [one.device for one in fleet.devices("tier=test")] == ["gate-8"]
    assert [one.device for one in fleet.devices("tier!=test")] == ["gate-7"]
    with pytest.raises(UsageError, match="label"):
        fleet.devices("Bad Label=1")


def test_command_against_a_distributor(
    server: FleetServer,
    keys: KeyFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The commands of a pipeline, one after the other, on a real distributor."""
    monkeypatch.setenv("EDGE_FLEET_DISTRIBUTOR", server.serving.operator_address)
    monkeypatch.setenv("EDGE_FLEET_KEYS", str(keys.folder))
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE", PASSPHRASE.decode())
    run: Callable[..., Ran] = lambda *arguments: run_main(  # noqa: E731
        main, [str(one) for one in arguments], capsys, monkeypatch
    )
    a_device(server, "gate-7").check_in()
    model = folder(tmp_path / "v1", 1)
    names = ("--model", MODEL, "--version", "1.0.0", "--variant", "fp32")
    assert run("publish", model, *names, "--json").document["created"] is True
    plan = run("rollout", "plan", MODEL, "1.0.0", "--json").document
    assert plan["without"] == []
    assert plan["wire_bytes"] > 0
    rollout = run("rollout", "create", MODEL, "1.0.0", "--json").document["rollout"]
    assert run("rollout", "watch", rollout, "--timeout", "0.5").code == 5
    assert run("rollout", "abort", rollout).code == 0
    assert run("rollout", "watch", rollout, "--json").code == 6
    assert "gate-7" in run("devices").out
