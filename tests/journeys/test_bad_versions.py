"""Versions that are wrong, slow or deadly: the device finds out by itself and serves on."""

from __future__ import annotations

import contextlib
import platform
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from edge_sdk.fleet import RolloutDevice
from tests.support.agent_api import AgentView, agent_view
from tests.support.asker import Asker, asking
from tests.support.fleet_on_loopback import SIZES, LoopbackFleet, loopback_fleet
from tests.support.known_models import Array, KnownVersions, answer_of, known_versions
from tests.support.onnx_models import mlp, save, trap
from tests.support.proxy import Proxy

pytestmark = pytest.mark.distributor

DEVICE = "kiosk-1"
SLOW = "1.2.0"
STRICT = {  # as shipped, but for the time
    "EDGE_AGENT_PROBATION_RATIO_MAX": "1.5",
    "EDGE_AGENT_PROBATION_SAMPLES_MIN": "20",
    "EDGE_AGENT_PROBATION_DURATION_S": "1.0",
    "EDGE_AGENT_PROBATION_DEADLINE_S": "20.0",
}


MANIFESTS_BYTES = 32 << 10  # check-ins and plans; the smallest delta has ten times that
ENDS = ("failed", "rolled_back", "committed")


@dataclass(kw_only=True)
class Scene:
    """A device that serves 1.0.0, and an application that must see nothing fail."""

    folder: Path
    fleet: LoopbackFleet
    view: AgentView
    asker: Asker
    known: KnownVersions
    seen: int = 0  # number of the last event looked at

    def roll_out(self, version: str, *, retry: bool = False) -> tuple[RolloutDevice, list[str]]:
        """How the rollout ended on the device, and the states that it went through there."""
        rollout = self.fleet.roll_out(version, [DEVICE], retry=retry)
        (device,) = rollout.devices
        events = self.view.events_until(
            lambda event: event.version == version and event.state in ENDS, after=self.seen
        )
        self.seen = events[-1].number
        return device, [event.state for event in events if event.version == version]

    def check_still_serving(self) -> None:
        self.asker.wait_for("1.0.0")
        model = self.view.model()
        assert model is not None
        assert model.version == "1.0.0"

    def save_slow(self, name: str, *, repeats: int) -> Path:
        """1.0.0 with layers in front that cost time and change nothing."""
        graph = self.known.models["1.0.0"].graph
        weights = [numpy_helper.to_array(one) for one in graph.initializer]
        slow = mlp(SIZES, weights=weights, repeats=repeats)
        return save(slow, self.folder / name / "model.onnx")

    def publish_with_sample(self, path: Path, version: str, inputs: Array, outputs: Array) -> None:
        """Published with a golden sample from elsewhere, which nobody computes again here."""
        sample = self.folder / f"{version}.npz"
        np.savez(sample, **{"input.x": inputs, "output.y": outputs})
        self.fleet.publish(path, version, golden=sample)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("bad")
    known = known_versions(folder / "models", 2)
    expected = {"1.0.0": known.expected["1.0.0"], SLOW: known.expected["1.0.0"]}
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(loopback_fleet(folder / "fleet"))
        agent = fleet.start_agent(DEVICE, **STRICT)
        view = stack.enter_context(agent_view(agent.ready["agent_address"]))
        fleet.publish(known.paths["1.0.0"], "1.0.0")
        assert fleet.roll_out("1.0.0", [DEVICE]).succeeded
        asker = stack.enter_context(
            asking(agent.ready["inference_address"], expected, known.given, folder)
        )
        asker.wait_for("1.0.0")
        yield Scene(folder=folder, fleet=fleet, view=view, asker=asker, known=known)
        asked = asker.stop()
        assert not asked.failed, asked.problems
        assert set(asked.versions()) <= set(expected)


def test_damaged_weights_fail_the_golden_sample(scene: Scene) -> None:
    """A version whose weights were damaged after its golden sample was made fails its trial on
    the device, which says so and keeps the version that serves."""
    good = scene.known.paths["2.0.0"]
    damaged = bytearray(good.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 40_000] = bytes(40_000)
    path = scene.folder / "damaged" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(damaged)
    assert np.abs(answer_of(path, scene.known.given) - scene.known.expected["2.0.0"]).max() > 1e-2
    scene.publish_with_sample(path, "1.1.0", scene.known.given, scene.known.expected["2.0.0"])

    ended, states = scene.roll_out("1.1.0")
    assert ended.state == "failed"
    assert "golden sample differs" in ended.message
    assert "proved" in states, "its bytes were what was published"
    assert "switched" not in states
    scene.check_still_serving()


def test_slow_version_is_rolled_back_and_remembered(scene: Scene) -> None:
    """A version that is at least four times slower is rolled back by probation, is not tried
    again by a new rollout, and is tried again by one that says retry."""
    path = scene.save_slow("slow", repeats=1600)
    scene.fleet.publish(path, SLOW)

    ended, states = scene.roll_out(SLOW)
    assert ended.state == "rolled_back"
    assert float(ended.facts["ratio"]) >= 4.0
    assert "on_probation" in states
    scene.check_still_serving()

    ended, states = scene.roll_out(SLOW)
    assert ended.state == "failed"
    assert ended.facts["wire_bytes"] == "0"
    assert "times as long" in ended.message
    assert states == ["failed"]
    scene.check_still_serving()

    ended, states = scene.roll_out(SLOW, retry=True)
    assert ended.state == "rolled_back"
    assert "on_probation" in states
    scene.check_still_serving()


def test_deadly_version_costs_no_request(scene: Scene) -> None:
    """A version that kills its engine dies in the trial process; nobody who asks notices, and
    the version is refused."""
    ones = np.ones((1, SIZES[0]), np.float32)
    path = save(trap(), scene.folder / "trap" / "model.onnx")
    scene.publish_with_sample(path, "1.3.0", ones, np.zeros_like(ones) + 1)

    ended, states = scene.roll_out("1.3.0")
    assert ended.state == "failed"
    if platform.machine() == "x86_64":
        assert "SIGFPE" in ended.message
    assert "tried" not in states
    scene.check_still_serving()

    ended, states = scene.roll_out("1.3.0")
    assert ended.state == "failed"
    assert states == ["failed"], "it is not tried again"


def test_segmentation_fault_in_the_trial(scene: Scene) -> None:
    """A trial process that ends by SIGSEGV counts against the candidate and touches nobody."""
    path = scene.save_slow("patient", repeats=5000)  # takes a while to load: time to strike
    answer = scene.known.expected["1.0.0"]
    scene.publish_with_sample(path, "1.4.0", scene.known.given, answer)
    agent = scene.fleet.commands[0]
    rollout = scene.fleet.create("1.4.0", [DEVICE])
    trial = agent.child("device_agent.updater.trial_child", "--result-fd")
    trial.send_signal(signal.SIGSEGV)

    (ended,) = scene.fleet.finished(rollout).devices
    assert ended.state == "failed"
    assert "SIGSEGV" in ended.message
    scene.check_still_serving()


def test_undo_sends_no_model_bytes(scene: Scene) -> None:
    """`rollout undo` brings a device back to the version before, which it still holds: no
    model bytes travel."""
    fleet, other = scene.fleet, "kiosk-2"
    fleet.publish(scene.known.paths["2.0.0"], "2.0.0")
    with Proxy(fleet.device_address) as proxy:
        agent = fleet.start_agent(other, distributor=proxy.address)
        with agent_view(agent.ready["agent_address"]) as view:
            assert fleet.roll_out("1.0.0", [other]).succeeded
            rollout = fleet.roll_out("2.0.0", [other])
            assert rollout.succeeded, rollout
            travelled = proxy.down_bytes
            with fleet.operator() as operator:
                back = fleet.finished(operator.rollout_undo(rollout.rollout).rollout)
            (device,) = back.devices
            assert device.state == "committed"
            assert device.facts["wire_bytes"] == "0"
            assert view.wait_active("1.0.0").previous_version == "2.0.0"
            assert proxy.down_bytes - travelled < MANIFESTS_BYTES
        agent.stop()
