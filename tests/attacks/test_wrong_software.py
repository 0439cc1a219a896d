"""Wrong software: everything is genuine, and meant for another device, model or version."""

from __future__ import annotations

import pytest

from edge_sdk.manifest import AssignedModel, Assignment
from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover, start
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.attacked_device import V1, V2, AttackedDevice, artifact

VARIANT = make_artifact({"model.bin": b"int8" * 300}, version="2.0.0", variant="int8")
VERSION = artifact("1.5.0")
EARS = artifact("2.0.0", model="team/ears")


def assign(device: AttackedDevice, wrong: ArtifactBytes, *, name: str) -> None:
    """Well signed: the artifact ``wrong`` as version 2 of the digits, for the device ``name``."""
    server = device.server
    server.publish(V2)
    server.publish(wrong)
    said = V2.manifest
    model = AssignedModel(
        model=said.model,
        version=said.version,
        variant=said.variant,
        artifact=wrong.artifact,
        floor=None,
        rollout="wrong",
        attempt=1,
    )
    server.counter += 1
    other = Assignment(device=name, counter=server.counter, models=(model,), expires_s=None)
    server.assignment = device.fleet.assign(other)


def next_door(device: AttackedDevice) -> None:
    """The mirror has what the distributor signed for the device next door."""
    assign(device, V2, name="kiosk-8")


def another_variant(device: AttackedDevice) -> None:
    """Its publisher signed it, for devices of another kind."""
    assign(device, VARIANT, name=device.server.device)


NEXT_DOOR = Attack(play=next_door, bad=V2, says="kiosk-8", check="device")
ANOTHER = Attack(play=another_variant, bad=VARIANT, says="signed as another", check="target")


def test_another_devices_assignment_is_refused(device: Devices) -> None:
    """However well it is signed."""
    one = play_guarded(NEXT_DOOR, device)
    recover(one, one.fleet)


def test_control_without_a_name(device: Devices) -> None:
    """An agent that does not look for whom an assignment is installs it."""
    play_control(NEXT_DOOR, device)


def test_an_artifact_under_anothers_name_is_refused(device: Devices) -> None:
    """Another variant, another version, another model: each is a target, of another path."""
    one = play_guarded(ANOTHER, device)
    for wrong in (VERSION, EARS):
        seen = len(one.server.events)
        assign(one, wrong, name=one.server.device)
        assert "signed as another" in one.refusal(after=seen).message
        assert not one.is_installed(wrong)
        assert one.active() == V1.artifact
    recover(one, one.fleet)


def test_control_without_looking_at_paths(device: Devices) -> None:
    """An agent that believes the assignment alone installs another variant."""
    play_control(ANOTHER, device)


@pytest.mark.parametrize("wrong", [VERSION, EARS], ids=["version", "model"])
def test_control_that_does_not_read_its_name(device: Devices, wrong: ArtifactBytes) -> None:
    """Two checks stand in front of another version or model: without both it is installed."""
    one = start(device, control="target,its own name")
    assign(one, wrong, name=one.server.device)
    one.wait(lambda: one.active() == wrong.artifact, "the wrong artifact to run")
