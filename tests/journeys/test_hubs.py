"""Where devices run many old versions, one that is twenty behind comes by a hub, in two steps,
proved in between."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from device_agent.store import Store
from edge_sdk.base import Digest
from edge_sdk.fleet import Cohort, Published, StoredDelta
from tests.support.agent_api import agent_view
from tests.support.fleet_on_loopback import MODEL, LoopbackFleet, loopback_fleet
from tests.support.onnx_models import mlp, save
from tests.support.processes import wait_for
from tests.support.proxy import Proxy
from tests.support.raw_device import RawDevice

pytestmark = pytest.mark.distributor

SIZES = (128, 1024, 1024, 10)  # five chunks; a version changes the first tensor and the last
AWAY = (6, 7, 8, 9, 11, 12)  # versions of devices that are away: too many for one delta each
LAST = 24  # versions; every fifth is a key, so that the way from 4 leads over 5
FIRST_METHODS = ("copy", "literal")
TALK_BYTES = 64 << 10  # what is no part of a delta: framing, check-ins, plans, events


@dataclass(frozen=True, kw_only=True)
class Scene:
    """24 published versions, of which devices run many old ones."""

    fleet: LoopbackFleet
    paths: dict[int, Path]
    published: dict[int, Published]

    def artifact(self, number: int) -> Digest:
        return self.published[number].artifact

    def deltas(self) -> dict[tuple[str, str], StoredDelta]:
        """Stored ones by major versions; "" is from nothing."""
        with self.fleet.operator() as operator:
            found = operator.storage(MODEL).deltas
        return {
            (one.source_version.partition(".")[0], one.target_version.partition(".")[0]): one
            for one in found
        }


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("hubs")
    random = np.random.default_rng(11)
    weights = [
        (random.standard_normal(shape) / 32).astype(np.float32)
        for shape in itertools.pairwise(SIZES)
    ]
    with loopback_fleet(folder / "fleet") as fleet:
        paths, published = {}, {}
        for number in range(1, LAST + 1):
            for at in (0, -1):
                step = 1 + 1e-4 * random.standard_normal(weights[at].shape)
                weights[at] = (weights[at] * step).astype(np.float32)
            paths[number] = save(mlp(SIZES, weights=weights), folder / f"{number}" / "model.onnx")
            published[number] = fleet.publish(paths[number], f"{number}.0.0")
        for number in AWAY:
            away = RawDevice(fleet, f"away-{number}", FIRST_METHODS)
            away.check_in(runs=published[number].artifact)
        yield Scene(fleet=fleet, paths=paths, published=published)


def test_twenty_versions_in_two_proved_steps(scene: Scene) -> None:
    """Killed in the second step, the updater goes on from the hub, which is proved and here:
    nothing of the first step travels twice. Afterwards the hub is gone from the device."""
    fleet, device = scene.fleet, "kiosk-1"
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Proxy(fleet.device_address))
        agent = fleet.start_agent(
            device, distributor=proxy.address, EDGE_AGENT_PROBATION_DURATION_S="0.3"
        )
        view = stack.enter_context(agent_view(agent.ready["agent_address"]))
        assert fleet.roll_out("4.0.0", [device]).succeeded
        with fleet.operator() as operator:
            cohort = Cohort(devices=(device,))
            (planned,) = operator.rollout_plan(MODEL, f"{LAST}.0.0", cohort).devices
        deltas = scene.deltas()
        assert {("4", "5"), ("5", f"{LAST}")} <= set(deltas)
        assert ("4", f"{LAST}") not in deltas
        first, second = deltas["4", "5"].size_bytes, deltas["5", f"{LAST}"].size_bytes
        assert (planned.source_artifact, planned.steps) == (scene.artifact(4), 2)
        assert planned.wire_bytes == first + second < planned.whole_bytes

        before = proxy.down_bytes
        proxy.hold_after(first + second // 2 + TALK_BYTES // 4)
        rollout = fleet.create(f"{LAST}.0.0", [device])
        wait_for(lambda: proxy.is_holding, "the link to be held")
        store, hub = Store(fleet.state(device)), scene.artifact(5)
        wait_for(lambda: store.is_held(hub), "the hub to be proved")
        assert store.rotten_files(hub) == ()
        assert not store.is_held(scene.artifact(LAST))
        held = view.model()
        assert held is not None
        assert held.version == "4.0.0"  # serves meanwhile; the hub never does
        reasons = {pair: one.reasons[0] for pair, one in scene.deltas().items()}
        assert reasons["4", "5"] == reasons["5", f"{LAST}"] == f"rollout {rollout} needs it"

        updater = agent.child("updater_process", "--parent-pid")
        updater.kill()
        updater.wait(10)
        proxy.cut()
        proxy.release()
        assert fleet.finished(rollout).succeeded
        fetched = proxy.down_bytes - before
        again = second // 2 + TALK_BYTES // 4  # at most what had come of the second step
        assert first > 3 * TALK_BYTES
        assert first + second <= fetched <= first + second + again + 2 * TALK_BYTES
        view.wait_active(f"{LAST}.0.0")
        tree = store.tree(scene.artifact(LAST)) / "model.onnx"
        assert tree.read_bytes() == scene.paths[LAST].read_bytes()
        wait_for(lambda: not store.is_held(hub), "the hub to be collected")
        states = [one.state for one in view.events_until(lambda one: one.state == "committed")]
        assert "on_probation" in states


def test_old_devices_come_by_a_hub_too(scene: Scene, tmp_path: Path) -> None:
    """A device that knows only copy and literal gets both steps made of these alone; today's
    deltas over the same way, which it could not decode, are not offered to it."""
    source = scene.artifact(9)
    device = RawDevice(scene.fleet, "old", FIRST_METHODS)
    device.check_in()
    held, _ = device.bring(source, None, tmp_path / "nine")
    device.check_in(held=(source,))
    steps = device.plan(scene.artifact(LAST), (source, held))
    assert [one.target_artifact for one in steps] == [
        scene.artifact(10).raw,
        scene.artifact(LAST).raw,
    ]
    made, used = device.bring(scene.artifact(LAST), (source, held), tmp_path / "last")
    assert all(each <= set(FIRST_METHODS) for each in used)
    assert (made / "model.onnx").read_bytes() == scene.paths[LAST].read_bytes()


def test_a_restart_keeps_what_was_built(scene: Scene) -> None:
    """Stopped and started again with a budget, the distributor keeps within it, and what a
    device still needs is built anew."""
    fleet = scene.fleet
    before = scene.deltas()
    fleet.distributor.stop()
    budget = max(one.size_bytes for one in before.values()) + 1
    fleet.start_distributor("--delta-storage-bytes", str(budget))
    after = scene.deltas()
    assert set(after) < set(before)
    assert sum(one.size_bytes for one in after.values()) <= budget
    with fleet.operator() as operator:
        stored = operator.storage()
        assert (stored.budget_bytes, stored.deltas_bytes <= budget) == (budget, True)
    device = RawDevice(fleet, "young", FIRST_METHODS)
    device.check_in()
    (step,) = device.plan(scene.artifact(2), None)
    assert step.target_artifact == scene.artifact(2).raw
