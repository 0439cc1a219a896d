"""Wrong software: an assignment that is genuine, and another device's."""

from __future__ import annotations

from edge_sdk.manifest import AssignedModel, Assignment
from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import V2, AttackedDevice


def play(device: AttackedDevice) -> None:
    """The mirror has what the distributor signed for the device next door."""
    server = device.server
    server.publish(V2)
    said = V2.manifest
    model = AssignedModel(
        model=said.model,
        version=said.version,
        variant=said.variant,
        artifact=V2.artifact,
        floor=None,
        rollout="next-door",
        attempt=1,
    )
    server.counter += 1
    other = Assignment(device="kiosk-8", counter=server.counter, models=(model,), expires_s=None)
    server.assignment = device.fleet.assign(other)


ATTACK = Attack(play=play, bad=V2, says="kiosk-8", check="device")


def test_another_devices_assignment_is_refused(device: Devices) -> None:
    """However well it is signed."""
    one = play_guarded(ATTACK, device)
    recover(one, one.fleet)


def test_control_without_a_name(device: Devices) -> None:
    """An agent that does not look for whom an assignment is installs it."""
    play_control(ATTACK, device)
