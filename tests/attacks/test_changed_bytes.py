"""A byte is changed somewhere between publisher and engine: it never becomes the active model.

Each test brings one more version to a device through a link that it controls. The control
is the rollout without an attack, in the fixture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_sdk.base import prove_stream
from edge_sdk.fleet import RolloutDevice
from edge_sdk.protos import agent_v1_pb2 as wire
from tests.support.agent_api import AgentView, agent_view
from tests.support.asker import Asker, asking
from tests.support.damage import flip_bit
from tests.support.fleet_on_loopback import MODEL, LoopbackFleet, loopback_fleet
from tests.support.known_models import KnownVersions, known_versions
from tests.support.processes import Command, wait_for
from tests.support.proxy import Proxy

pytestmark = pytest.mark.distributor

DEVICE = "kiosk-1"
SIZES = (64, 1024, 1024, 10)  # five chunks
TALK_BYTES = 64 << 10
DAMAGE = {"DeltaError", "ProofError", "WrongSourceError"}


@dataclass
class Scene:
    """A device behind a link that can lie, and what was published."""

    folder: Path
    fleet: LoopbackFleet
    proxy: Proxy
    known: KnownVersions
    agent: Command
    left: list[str]
    active: str = "1.0.0"
    previous: str = ""
    seen: int = field(default=0)

    def publish_next(self) -> str:
        version = self.left.pop(0)
        self.fleet.publish(self.known.paths[version], version)
        return version

    def start_agent(self, *, checked_in: bool = True) -> None:
        self.agent = self.fleet.start_agent(
            DEVICE,
            distributor=self.proxy.address,
            checked_in=checked_in,
            EDGE_AGENT_PROBATION_DURATION_S="0.5",
        )

    @contextlib.contextmanager
    def asking(self) -> Iterator[Asker]:
        """An application that asks during the block; none of its requests may fail."""
        address = self.agent.ready["inference_address"]
        with asking(address, self.known.expected, self.known.given, self.folder) as asker:
            yield asker
            asked = asker.stop()
        assert not asked.failed, asked.problems

    def view(self) -> contextlib.AbstractContextManager[AgentView]:
        return agent_view(self.agent.ready["agent_address"])

    def end_of(self, rollout: str) -> RolloutDevice:
        (device,) = self.fleet.finished(rollout).devices
        return device

    def check_runs(self, version: str) -> list[wire.Event]:
        """The version is active, and its file is the published one to the byte. Returns what
        happened on the device since the last call."""
        with self.view() as view:
            view.wait_active(version)
            events = view.events_until(
                lambda event: event.version == version and event.state == "committed",
                after=self.seen,
            )
        self.seen = events[-1].number
        if version != self.active:
            self.active, self.previous = version, self.active
        assert self.tree_file(version).read_bytes() == self.known.paths[version].read_bytes()
        return events

    def tree_file(self, version: str) -> Path:
        """The file that engines are given on the device."""
        with self.fleet.operator() as operator:
            (artifact,) = (one for one in operator.models(MODEL) if one.version == version)
        return self.fleet.state(DEVICE) / "trees" / str(artifact.artifact) / "model.onnx"

    def blobs(self) -> set[Path]:
        """Files in the distributor's store."""
        folder = self.fleet.folder / "data" / "objects" / "blobs"
        return {path for path in folder.rglob("*") if path.is_file()}

    def published_blob(self, version: str) -> Path:
        with self.known.paths[version].open("rb") as stream:
            digest = str(prove_stream(stream).digest)
        (path,) = (one for one in self.blobs() if one.name == digest)
        return path


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("bytes")
    known = known_versions(folder / "models", 9, sizes=SIZES)
    with loopback_fleet(folder / "fleet") as fleet, Proxy(fleet.device_address) as proxy:
        left = list(known.paths)
        made = Scene(folder, fleet, proxy, known, None, left)  # type: ignore[arg-type]
        made.start_agent()
        for _ in range(2):
            version = made.publish_next()
            assert fleet.roll_out(version).succeeded
            made.check_runs(version)
        yield made


def test_published_file_changed_at_the_distributor(scene: Scene) -> None:
    """A file that is changed in the distributor's store is found before anything is sent;
    publishing the version again mends it."""
    version = scene.publish_next()
    stored = scene.published_blob(version)
    flip_bit(stored, stored.stat().st_size // 2)
    with scene.asking() as asker:
        asker.wait_for(scene.active)
        before = scene.proxy.down_bytes
        ended = scene.end_of(scene.fleet.create(version))
        assert (ended.state, ended.reason) == ("failed", "ProofError")
        assert scene.proxy.down_bytes - before < TALK_BYTES

        scene.fleet.publish(scene.known.paths[version], version)
        ended = scene.end_of(scene.fleet.create(version))
        assert ended.state == "committed", ended
        asker.wait_for(version)
    scene.check_runs(version)


def test_delta_changed_at_the_distributor(scene: Scene) -> None:
    """Deltas that are changed where they lie are noticed by the device, which says so; the
    distributor builds them again and the update completes."""
    version = scene.publish_next()
    before = scene.blobs()
    with scene.fleet.operator() as operator:
        operator.rollout_plan(MODEL, version)
    made = scene.blobs() - before
    assert made
    for delta in made:
        flip_bit(delta, delta.stat().st_size // 2)
    with scene.asking() as asker:
        asker.wait_for(scene.active)
        ended = scene.end_of(scene.fleet.create(version))
        assert ended.state == "committed", ended
        asker.wait_for(version)
    events = scene.check_runs(version)
    assert DAMAGE & {event.reason for event in events}


def test_byte_changed_in_the_stream(scene: Scene) -> None:
    """Bytes that are changed on the way are noticed; what was proved before them stays and the
    update completes."""
    version = scene.publish_next()
    with scene.asking() as asker:
        asker.wait_for(scene.active)
        scene.proxy.flip(2)
        ended = scene.end_of(scene.fleet.create(version))
        assert ended.state == "committed", ended
        asker.wait_for(version)
    assert scene.proxy.flipped == 2
    events = scene.check_runs(version)
    assert DAMAGE & {event.reason for event in events}


def test_link_that_always_lies(scene: Scene) -> None:
    """On a link that changes every download the update fails by name and the old version
    serves; once the link is honest the same version is accepted, without being told to retry."""
    version = scene.publish_next()
    with scene.asking() as asker:
        asker.wait_for(scene.active)
        scene.proxy.flip(1 << 30)
        ended = scene.end_of(scene.fleet.create(version))
        assert (ended.state, ended.reason in DAMAGE) == ("failed", True), ended
        assert asker.latest == scene.active
        scene.proxy.flip(0)
        ended = scene.end_of(scene.fleet.create(version))
        assert ended.state == "committed", ended
        asker.wait_for(version)
    scene.check_runs(version)


def test_partial_file_changed_on_the_device(scene: Scene) -> None:
    """A byte that is changed in a half-fetched file while the agent is down is found; the
    chunk is fetched again and the update completes."""
    version = scene.publish_next()
    with scene.fleet.operator() as operator:
        (planned,) = operator.rollout_plan(MODEL, version).devices
    held = int(planned.wire_bytes * 0.7)
    scene.proxy.hold_after(held)
    rollout = scene.fleet.create(version)
    partial = scene.fleet.state(DEVICE) / "partial"
    wait_for(lambda: scene.proxy.is_holding, "the link to be held")
    wait_for(lambda: _size(partial) > 1 << 20, "a chunk on the device's disk")
    scene.proxy.cut()
    wait_for(lambda: list(partial.glob("*/chunks")), "the record of proved chunks")
    scene.agent.stop()
    flip_bit(max(partial.glob("*/file.*"), key=lambda one: one.stat().st_size), 1000)

    scene.start_agent(checked_in=False)
    with scene.asking() as asker:
        asker.wait_for(scene.active)
        scene.proxy.release()
        assert scene.end_of(rollout).state == "committed"
        asker.wait_for(version)
    scene.check_runs(version)


def test_active_file_changed_while_the_agent_is_down(scene: Scene) -> None:
    """A byte that is changed in the active file while the agent is down is found before that
    file is loaded: the previous version serves, and the file is repaired."""
    active, previous = scene.active, scene.previous
    scene.agent.stop()
    file = scene.tree_file(active)
    flip_bit(file, file.stat().st_size // 2)

    scene.proxy.hold_after(0)
    scene.start_agent(checked_in=False)
    with scene.asking() as asker:
        asker.wait_for(previous)
        scene.proxy.release()
        asker.wait_for(active)
        versions = asker.stop().versions()
    assert versions == [previous, active]
    events = scene.check_runs(active)
    assert "SourceRottenError" in {event.reason for event in events}


def test_source_files_changed_on_the_device(scene: Scene) -> None:
    """A byte that is changed in a file that deltas build on is found when the proof fails;
    that file is not built on again, and where nothing else is held the update goes on from
    the whole."""
    version = scene.publish_next()
    for rotten in (scene.active, scene.previous):  # last of all tests: nothing good is left
        file = scene.tree_file(rotten)
        flip_bit(file, file.stat().st_size // 2)
    before = scene.proxy.down_bytes
    with scene.asking() as asker:
        asker.wait_for(scene.active)
        ended = scene.end_of(scene.fleet.create(version))
        assert ended.state == "committed", ended
        asker.wait_for(version)
    assert scene.proxy.down_bytes - before > int(ended.facts["plan_bytes"])
    events = scene.check_runs(version)
    assert [event.reason for event in events].count("SourceRottenError") == 2


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/file.*"))
