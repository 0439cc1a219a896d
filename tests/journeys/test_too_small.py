"""What does not fit a device is known before its download starts, and said; it serves on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_sdk.fleet import RolloutDevice
from tests.support.agent_api import agent_view
from tests.support.asker import asking
from tests.support.fleet_on_loopback import MODEL, LoopbackFleet, loopback_fleet
from tests.support.known_models import KnownVersions, known_versions
from tests.support.onnx_models import save
from tests.support.processes import Command
from tests.support.proxy import Proxy

pytestmark = pytest.mark.distributor

DEVICE = "kiosk-1"
SMALL = "1.0.0"
BIG = "2.0.0"
BIG_SIZES = (64, 1024, 1024, 10)  # four times the small one
MEMORY_BYTES = 16 << 20  # 4 times the file is asked for: enough for the small one
DISK_BYTES = 4 << 20
PLENTY_BYTES = 1 << 30
TALK_BYTES = 64 << 10


@dataclass
class Scene:
    """A device that serves a small model through a link that counts."""

    folder: Path
    fleet: LoopbackFleet
    proxy: Proxy
    known: KnownVersions
    agent: Command
    rollouts: int = 0

    def restart_agent(self, *, memory_bytes: int, disk_bytes: int) -> None:
        self.agent.stop()
        self.start_agent(memory_bytes=memory_bytes, disk_bytes=disk_bytes)

    def start_agent(self, *, memory_bytes: int, disk_bytes: int) -> None:
        self.agent = self.fleet.start_agent(
            DEVICE,
            *("--memory-bytes", str(memory_bytes), "--disk-quota-bytes", str(disk_bytes)),
            distributor=self.proxy.address,
        )

    @contextlib.contextmanager
    def serving_on(self) -> Iterator[None]:
        """During the block the small model answers, and no model bytes travel."""
        before = self.proxy.down_bytes
        address = self.agent.ready["inference_address"]
        with asking(address, self.known.expected, self.known.given, self.folder) as asker:
            asker.wait_for(SMALL)
            yield
            asked = asker.stop()
        assert not asked.failed, asked.problems
        assert asked.versions() == [SMALL]
        assert self.proxy.down_bytes - before < TALK_BYTES, "something was downloaded"

    def end_of(self, rollout: str) -> RolloutDevice:
        (device,) = self.fleet.finished(rollout).devices
        return device


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("small")
    known = known_versions(folder / "models", 1)
    big = known_versions(folder / "big", 1, sizes=BIG_SIZES)
    with loopback_fleet(folder / "fleet") as fleet, Proxy(fleet.device_address) as proxy:
        fleet.publish(known.paths[SMALL], SMALL)
        fleet.publish(save(big.models[SMALL], folder / "big" / "model.onnx"), BIG)
        made = Scene(folder, fleet, proxy, known, None)  # type: ignore[arg-type]
        made.start_agent(memory_bytes=PLENTY_BYTES, disk_bytes=PLENTY_BYTES)
        assert fleet.roll_out(SMALL).succeeded
        yield made


@pytest.mark.parametrize(
    ("memory_bytes", "disk_bytes", "why"),
    [(MEMORY_BYTES, PLENTY_BYTES, "memory"), (PLENTY_BYTES, DISK_BYTES, "disk")],
    ids=["memory", "disk"],
)
def test_known_to_the_distributor(
    scene: Scene, memory_bytes: int, disk_bytes: int, why: str
) -> None:
    """A device that said that it has too little is refused the version with the reason, and is
    not even told to begin."""
    scene.restart_agent(memory_bytes=memory_bytes, disk_bytes=disk_bytes)
    with scene.serving_on():
        ended = scene.end_of(scene.fleet.create(BIG))
        assert ended.state == "refused"
        assert f"bytes of {why}" in ended.message
    if why == "memory":
        with scene.fleet.operator() as operator:
            (verdict,) = operator.explain(DEVICE, MODEL, BIG).verdicts
        assert not verdict.fits
        assert any("bytes of memory" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("memory_bytes", "disk_bytes", "why"),
    [(MEMORY_BYTES, PLENTY_BYTES, "memory"), (PLENTY_BYTES, DISK_BYTES, "disk")],
    ids=["memory", "disk"],
)
def test_known_to_the_device_alone(
    scene: Scene, memory_bytes: int, disk_bytes: int, why: str
) -> None:
    """A device whose room shrank after the rollout was made finds out before its download
    starts, says so by name, and serves on."""
    scene.restart_agent(memory_bytes=PLENTY_BYTES, disk_bytes=PLENTY_BYTES)
    scene.agent.stop()
    rollout = scene.fleet.create(BIG)
    scene.start_agent(memory_bytes=memory_bytes, disk_bytes=disk_bytes)
    with scene.serving_on():
        ended = scene.end_of(rollout)
        assert (ended.state, ended.reason) == ("failed", "ResourceError"), ended
        assert why in ended.message
        with agent_view(scene.agent.ready["agent_address"]) as view:
            model = view.model()
        assert model is not None
        assert (model.version, model.reason) == (SMALL, "ResourceError")
    assert scene.fleet.roll_out(SMALL).succeeded  # or it would begin when there is room again
