"""Models that fit only each other: devices switch to both of them, or stay with both old ones."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.fleet import Draft, Fleet, Rollout
from tests.support.agent_api import AgentView, agent_view
from tests.support.fleet_on_loopback import LoopbackFleet, loopback_fleet
from tests.support.known_models import KnownVersions, answer_of, known_versions
from tests.support.processes import environment, program

pytestmark = pytest.mark.distributor

EARS = "team/ears"
EYES = "team/eyes"
DEVICE = "robot-1"


@dataclass(kw_only=True)
class Scene:
    """A device that serves 1.0.0 of both models."""

    folder: Path
    loopback: LoopbackFleet
    fleet: Fleet
    view: AgentView
    known: KnownVersions

    def publish(self, model: str, version: str, path: Path, **draft: object) -> None:
        self.fleet.publish(path, Draft(model=model, version=version, variant="fp32", **draft))  # type: ignore[arg-type]

    def roll_out(self, model: str, version: str, **also: str) -> Rollout:
        """``also``: versions of more models of the namespace, by name."""
        together = [(f"team/{name}", its) for name, its in also.items()]
        made = self.fleet.rollout_create(model, version, together=together)
        return self.loopback.finished(made.rollout)

    def active(self) -> tuple[str | None, str | None]:
        """The versions of ears and eyes that serve."""
        ears, eyes = self.view.model(EARS), self.view.model(EYES)
        return (ears and ears.version), (eyes and eyes.version)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("together")
    known = known_versions(folder / "models", 3)
    with contextlib.ExitStack() as stack:
        loopback = stack.enter_context(loopback_fleet(folder / "fleet"))
        agent = loopback.start_agent(DEVICE)
        one = Scene(
            folder=folder,
            loopback=loopback,
            fleet=stack.enter_context(loopback.operator()),
            view=stack.enter_context(agent_view(agent.ready["agent_address"])),
            known=known,
        )
        for model in (EARS, EYES):
            one.publish(model, "1.0.0", known.paths["1.0.0"])
        yield one


def edge_fleet(scene: Scene, *arguments: str) -> dict[str, Any]:
    """What the real command answers, as its document."""
    command = [*program("edge_sdk.fleet.cli"), "--distributor", scene.loopback.operator_address]
    ran = subprocess.run(
        [*command, *arguments, "--json"], env=environment(), capture_output=True, check=True
    )
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def test_a_group_comes_from_nothing(scene: Scene) -> None:
    """One command brings two models to a device that has neither, and its status has a row for
    each of them."""
    made = edge_fleet(scene, "rollout", "create", EARS, "1.0.0", "--with", EYES, "1.0.0")
    assert [one["model"] for one in made["together"]] == [EYES]
    ended = scene.loopback.finished(made["rollout"])
    assert ended.succeeded, ended
    assert {(row.model, row.state) for row in ended.devices} == {
        (EARS, "committed"),
        (EYES, "committed"),
    }
    assert scene.active() == ("1.0.0", "1.0.0")


def test_half_a_bad_group_is_no_group(scene: Scene) -> None:
    """Where the golden sample of one model fails, the device keeps both old versions, and the
    rollout says which of the two is to blame; what mends the bad one brings both."""
    good = scene.known.paths["2.0.0"]
    damaged = bytearray(good.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 40_000] = bytes(40_000)
    path = scene.folder / "damaged" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(damaged)
    assert np.abs(answer_of(path, scene.known.given) - scene.known.expected["2.0.0"]).max() > 1e-2
    sample = scene.folder / "sample.npz"
    given, expected = scene.known.given, scene.known.expected["2.0.0"]
    np.savez(sample, **{"input.x": given, "output.y": expected})
    scene.publish(EARS, "2.0.0", good)
    scene.publish(EYES, "2.0.0", path, golden=sample)

    ended = scene.roll_out(EARS, "2.0.0", eyes="2.0.0")
    rows = {row.model: row for row in ended.devices}
    assert rows[EYES].state == "failed"
    assert "golden sample differs" in rows[EYES].message
    assert (rows[EARS].state, rows[EARS].reason) == ("failed", "GroupFailedError")
    assert "team/eyes 2.0.0" in rows[EARS].message
    assert scene.active() == ("1.0.0", "1.0.0")

    scene.publish(EYES, "2.0.1", scene.known.paths["3.0.0"])
    assert scene.roll_out(EYES, "2.0.1").succeeded
    assert scene.active() == ("2.0.0", "2.0.1")
    after = {row.model: row.state for row in scene.fleet.rollout_status(ended.rollout).devices}
    assert after == {EARS: "committed", EYES: "failed"}


def test_undo_takes_the_group_back(scene: Scene) -> None:
    """Undoing the rollout of a group takes both of its models back at once."""
    scene.publish(EARS, "3.0.0", scene.known.paths["3.0.0"])
    scene.publish(EYES, "3.0.0", scene.known.paths["2.0.0"])
    made = scene.roll_out(EARS, "3.0.0", eyes="3.0.0")
    assert made.succeeded
    back = scene.loopback.finished(scene.fleet.rollout_undo(made.rollout).rollout)
    assert back.succeeded, back
    assert {(row.model, row.version) for row in back.devices} == {(EARS, "2.0.0"), (EYES, "2.0.1")}
    assert scene.active() == ("2.0.0", "2.0.1")
