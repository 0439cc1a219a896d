"""Freeze: the device is shown the same old metadata for ever, however old they get."""

from __future__ import annotations

from datetime import timedelta

from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import V2, AttackedDevice
from tests.support.trust import now


def play(device: AttackedDevice) -> None:
    """Everything is signed, and the newest of it two days ago: a day is what it lives."""
    device.fleet.at = now() - timedelta(days=2)
    device.server.assign(V2)


ATTACK = Attack(play=play, bad=V2, says="expired", check="expiry")


def test_nothing_is_installed_by_metadata_that_expired(device: Devices) -> None:
    """What serves goes on; a fresh timestamp is all that it takes to go on."""
    one = play_guarded(ATTACK, device)
    one.fleet.at = now()
    recover(one, one.fleet)


def test_control_without_expiry(device: Devices) -> None:
    """An agent that believes metadata of any age installs what they say."""
    play_control(ATTACK, device)
