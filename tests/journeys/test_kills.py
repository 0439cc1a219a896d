"""Processes are killed at the worst moment; what was proved stays, and nobody who asks notices."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
import pytest

from edge_sdk.base import CHUNK_BYTES
from edge_sdk.fleet import Rollout
from tests.support.agent_api import AgentView, agent_view
from tests.support.asker import Asker, asking
from tests.support.fleet_on_loopback import MODEL, LoopbackFleet, loopback_fleet
from tests.support.known_models import KnownVersions, known_versions
from tests.support.processes import Command, wait_for
from tests.support.proxy import Proxy

pytestmark = pytest.mark.distributor

DEVICE = "kiosk-1"
SIZES = (64, 1536, 1536, 10)  # ten chunks; the delta of a small step is about half of that
FRAME_BYTES = 64 << 10
PAUSE_MAX_S = 5.0  # of a whole busy machine; nobody may wait for an update to resume
TALK_BYTES = 64 << 10  # what is no part of a delta: framing, check-ins, plans, events


@dataclass
class Scene:
    """A device behind a bad link that serves a version, and an application that asks it."""

    fleet: LoopbackFleet
    agent: Command
    proxy: Proxy
    view: AgentView
    asker: Asker
    known: KnownVersions
    left: list[str] = field(default_factory=list)

    def publish_next(self) -> str:
        version = self.left.pop(0)
        self.fleet.publish(self.known.paths[version], version)
        return version

    def begin(self, version: str, *, share: float) -> tuple[str, int]:
        """The new rollout and the bytes of its one delta, of which ``share`` is let through."""
        with self.fleet.operator() as operator:
            (planned,) = operator.rollout_plan(MODEL, version).devices
        assert planned.source_artifact is not None
        self.proxy.hold_after(int(planned.wire_bytes * share))
        return self.fleet.create(version), planned.wire_bytes

    def updater(self) -> psutil.Process:
        return self.agent.child("updater_process", "--parent-pid")

    def partial_bytes(self) -> int:
        """Of the target that is on its way, on the device's disk."""
        folder = self.fleet.state(DEVICE) / "partial"
        return sum(path.stat().st_size for path in folder.glob("*/file.*"))

    def check_served(self, version: str, rollout: Rollout) -> None:
        assert rollout.succeeded, rollout
        self.asker.wait_for(version)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kills")
    known = known_versions(folder / "models", 4, sizes=SIZES)
    with contextlib.ExitStack() as stack:
        fleet = stack.enter_context(loopback_fleet(folder / "fleet"))
        proxy = stack.enter_context(Proxy(fleet.device_address))
        agent = fleet.start_agent(
            DEVICE, distributor=proxy.address, EDGE_AGENT_PROBATION_DURATION_S="0.5"
        )
        view = stack.enter_context(agent_view(agent.ready["agent_address"]))
        fleet.publish(known.paths["1.0.0"], "1.0.0")
        assert fleet.roll_out("1.0.0").succeeded
        asker = stack.enter_context(
            asking(agent.ready["inference_address"], known.expected, known.given, folder)
        )
        asker.wait_for("1.0.0")
        left = [version for version in known.paths if version != "1.0.0"]
        inference = agent.child("device_agent.serving").pid
        yield Scene(fleet, agent, proxy, view, asker, known, left)
        asked = asker.stop()
        assert not asked.failed, asked.problems
        assert asked.longest_pause_s() < PAUSE_MAX_S
        assert agent.child("device_agent.serving").pid == inference


def test_updater_killed_in_a_download(scene: Scene) -> None:
    """An updater that is killed in the middle of a download goes on where it was: over the
    whole update at most one chunk and the tables are fetched a second time."""
    version = scene.publish_next()
    before = scene.proxy.down_bytes
    rollout, delta_bytes = scene.begin(version, share=0.6)
    held = int(delta_bytes * 0.6)
    wait_for(lambda: scene.proxy.is_holding, "the link to be held")
    wait_for(lambda: received(scene.view) > held - FRAME_BYTES - TALK_BYTES, "frames to be used")
    updater = scene.updater()
    updater.kill()
    updater.wait(10)  # its sockets would swallow, and have counted, what is let through now
    scene.proxy.cut()
    scene.proxy.release()

    scene.check_served(version, scene.fleet.finished(rollout))
    fetched = scene.proxy.down_bytes - before
    assert fetched >= delta_bytes
    assert fetched <= delta_bytes + CHUNK_BYTES + TALK_BYTES + delta_bytes // 50


def test_updater_killed_while_it_applies(scene: Scene) -> None:
    """An updater that is killed while it turns arriving bytes into the target fetches again
    none of the chunks that lay on the disk."""
    version = scene.publish_next()
    scene.proxy.set_rate(6e6)
    rollout, delta_bytes = scene.begin(version, share=0.8)
    updater = scene.updater()
    wait_for(lambda: scene.partial_bytes() > 4 * CHUNK_BYTES, "chunks", every_s=0.002)
    updater.kill()
    updater.wait(10)
    scene.proxy.cut()
    kept, before = scene.partial_bytes() // CHUNK_BYTES, scene.proxy.down_bytes
    scene.proxy.set_rate(0)
    scene.proxy.release()

    scene.check_served(version, scene.fleet.finished(rollout))
    chunks = -(-scene.known.paths[version].stat().st_size // CHUNK_BYTES)
    assert 4 <= kept < chunks
    rest = (chunks - kept) * delta_bytes / (chunks - 1)  # the last chunk is a short one
    assert scene.proxy.down_bytes - before <= rest + TALK_BYTES + delta_bytes // 50


def test_distributor_killed_in_a_stream(scene: Scene) -> None:
    """While the distributor is gone in the middle of a stream the agent keeps trying, and when
    it is back on its port the agent finishes with what was missing."""
    version = scene.publish_next()
    before = scene.proxy.down_bytes
    rollout, delta_bytes = scene.begin(version, share=0.5)
    updater = scene.updater()
    wait_for(lambda: scene.proxy.is_holding, "the link to be held")
    scene.fleet.distributor.kill()
    scene.proxy.cut()
    scene.proxy.release()
    tries = scene.proxy.refused
    wait_for(lambda: scene.proxy.refused > tries + 1, "the agent to try again")
    scene.fleet.start_distributor()

    scene.check_served(version, scene.fleet.finished(rollout))
    assert scene.updater().pid == updater.pid
    fetched = scene.proxy.down_bytes - before
    assert fetched <= delta_bytes + CHUNK_BYTES + TALK_BYTES + delta_bytes // 50


def received(view: AgentView) -> int:
    model = view.model()
    return 0 if model is None else model.wire_bytes
