"""Arbitrary software: whoever holds every online key serves an artifact that nobody signed."""

from __future__ import annotations

from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import BAD, AttackedDevice


def play(device: AttackedDevice) -> None:
    """The assignment is well signed, and its artifact is there to be fetched."""
    honest, device.server.signed = device.fleet, None
    device.server.publish(BAD)
    device.server.signed = honest
    device.server.publish = lambda artifact: artifact.artifact  # type: ignore[method-assign]
    device.server.assign(BAD)
    del device.server.publish


ATTACK = Attack(play=play, bad=BAD, says="nobody who may signed", check="target")


def test_an_artifact_that_nobody_signed_is_refused(device: Devices) -> None:
    """Also with the device's memory of metadata gone; the honest distributor is believed again."""
    one = play_guarded(ATTACK, device)
    recover(one, one.fleet)


def test_control_without_looking_at_targets(device: Devices) -> None:
    """An agent that believes the assignment alone installs it."""
    play_control(ATTACK, device)
