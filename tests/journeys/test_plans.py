"""Devices that hold different things, or know less, come to the same version by other ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from onnx import numpy_helper

from edge_sdk.base import Digest
from edge_sdk.delta import METHODS
from edge_sdk.fleet import Cohort, Published
from tests.support.fleet_on_loopback import MODEL, SIZES, LoopbackFleet, loopback_fleet
from tests.support.known_models import KnownVersions, known_versions
from tests.support.onnx_models import mlp, save
from tests.support.raw_device import RawDevice

pytestmark = pytest.mark.distributor

FIRST_METHODS = ("copy", "literal")  # what a device of the first days can decode


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Three published versions."""

    fleet: LoopbackFleet
    known: KnownVersions
    published: dict[str, Published]

    def artifact(self, version: str) -> Digest:
        return self.published[version].artifact

    def model_on(self, device: str, version: str) -> bytes:
        folder = self.fleet.state(device) / "trees" / str(self.artifact(version))
        return (folder / "model.onnx").read_bytes()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("plans")
    known = known_versions(folder / "models", 3)
    with loopback_fleet(folder / "fleet") as fleet:
        published = {version: fleet.publish(path, version) for version, path in known.paths.items()}
        yield Scene(fleet=fleet, known=known, published=published)


def test_each_device_by_its_own_way(scene: Scene) -> None:
    """Agents on v1 and on v2 get different plans to v3, and one that holds nothing gets the
    whole, compressed, through the same decoder: all end with the same bytes."""
    fleet, target = scene.fleet, scene.artifact("3.0.0")
    devices = ("on-1", "on-2", "empty")
    for device in devices:
        fleet.start_agent(device, EDGE_AGENT_PROBATION_DURATION_S="0.3")
    first = [fleet.create("1.0.0", ["on-1"]), fleet.create("2.0.0", ["on-2"])]
    assert all(fleet.finished(rollout).succeeded for rollout in first)

    with fleet.operator() as operator:
        cohort = Cohort(devices=devices)
        planned = {one.device: one for one in operator.rollout_plan(MODEL, "3.0.0", cohort).devices}
    sources = {device: one.source_artifact for device, one in planned.items()}
    assert sources == {
        "on-1": scene.artifact("1.0.0"),
        "on-2": scene.artifact("2.0.0"),
        "empty": None,
    }
    file_bytes = scene.known.paths["3.0.0"].stat().st_size
    assert planned["empty"].wire_bytes == planned["empty"].whole_bytes < file_bytes
    assert planned["on-1"].wire_bytes < planned["empty"].wire_bytes
    assert planned["on-2"].wire_bytes < planned["empty"].wire_bytes

    rollout = fleet.roll_out("3.0.0", devices)
    assert rollout.succeeded, rollout
    for ended in rollout.devices:
        assert ended.artifact == target
        assert int(ended.facts["wire_bytes"]) == planned[ended.device].wire_bytes
        assert scene.model_on(ended.device, "3.0.0") == scene.known.paths["3.0.0"].read_bytes()


def test_device_that_nothing_fits(scene: Scene) -> None:
    """A device that no variant fits is not told to begin; the rollout and `explain` say why."""
    device = RawDevice(scene.fleet, "no-engine", METHODS, engines=())
    device.check_in()
    (ended,) = scene.fleet.roll_out("3.0.0", [device.name]).devices
    assert ended.state == "refused"
    assert "onnxruntime" in ended.message
    assert not device.check_in().assignment
    with scene.fleet.operator() as operator:
        (verdict,) = operator.explain(device.name, MODEL, "3.0.0").verdicts
    assert not verdict.fits
    assert any("engine onnxruntime" in reason for reason in verdict.reasons)


def test_device_that_knows_only_the_first_methods(scene: Scene, tmp_path: Path) -> None:
    """A device that knows only copy and literal gets a delta made of these alone, from what it
    holds, though today's encoder knows more; one of today gets another."""
    weights = [numpy_helper.to_array(one) for one in scene.known.models["2.0.0"].graph.initializer]
    path = save(mlp(SIZES, weights=[*weights[:-1], weights[-1] * 1.01]), tmp_path / "model.onnx")
    source, target = scene.artifact("2.0.0"), scene.fleet.publish(path, "2.1.0").artifact
    assert set(METHODS) > set(FIRST_METHODS)
    used = {}
    for name, methods in (("old", FIRST_METHODS), ("new", METHODS)):
        device = RawDevice(scene.fleet, name, methods)
        device.check_in()
        held, _ = device.bring(source, None, tmp_path / f"{name}-2.0.0")
        device.check_in(held=(source,))
        made, (used[name],) = device.bring(target, (source, held), tmp_path / f"{name}-2.1.0")
        assert (made / "model.onnx").read_bytes() == path.read_bytes()
    assert used["old"] == set(FIRST_METHODS)
    assert not used["new"] <= set(FIRST_METHODS)
