"""The distributor is captured: every key that it holds is the attacker's.

What such an attacker can and cannot do is the line that docs/security.md draws.
"""

from __future__ import annotations

from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, start
from tests.support.attacked_device import V1, V2, V3, AttackedDevice, artifact

OLD = artifact("0.9.0")


def play(device: AttackedDevice) -> None:
    """A version that was signed once, below the floor that the publisher set since."""
    device.fleet.publish(OLD.document)
    device.fleet.publish(V3.document, floor="1.0.0")
    device.server.assign(OLD)


ATTACK = Attack(play=play, bad=OLD, says="below", check="floor")


def test_nothing_below_the_publishers_floor(device: Devices) -> None:
    """The floor is signed with the targets: the online keys cannot lower it."""
    play_guarded(ATTACK, device)


def test_control_without_floors(device: Devices) -> None:
    """An agent without floors goes down to whatever was ever signed."""
    play_control(ATTACK, device)


def test_among_signed_versions_it_chooses(device: Devices) -> None:
    """Above the floor the assignment decides, down as well as up: that is what online keys are
    for, and what they can be abused for."""
    one = start(device)
    one.server.assign(V2)
    one.wait_until_runs(V2)
    one.server.assign(V1)
    one.wait(lambda: one.active() == V1.artifact, "the lower version")
