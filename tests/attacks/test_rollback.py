"""Rollback: a mirror without any key replays the repository as it was some time ago."""

from __future__ import annotations

from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import V2, AttackedDevice

OLD: dict[int, dict[str, bytes]] = {}


def before(device: AttackedDevice) -> None:
    """Version 2 was signed, and is not any more; the device has seen both."""
    fleet = device.fleet
    fleet.publish(V2.document)
    OLD[id(device)] = dict(fleet.files)
    device.withdraw(V2)


def play(device: AttackedDevice) -> None:
    """Every file is genuine, and old."""
    device.fleet.publish = lambda document, *, floor=None: ""  # type: ignore[method-assign]
    device.kept_files = dict(device.fleet.files)
    device.fleet.files.clear()
    device.fleet.files.update(OLD[id(device)])
    device.server.assign(V2)


ATTACK = Attack(
    play=play, bad=V2, says="version", check="marks", before=before, control_damaged=True
)


def test_an_older_repository_is_refused(device: Devices) -> None:
    """Also where timestamp and snapshot are lost: their marks are put back."""
    one = play_guarded(ATTACK, device)
    one.fleet.files.update(one.kept_files)
    del one.fleet.publish
    recover(one, one.fleet)


def test_control_without_marks(device: Devices) -> None:
    """An agent that lost two files, and has no marks, goes back in time."""
    play_control(ATTACK, device)
