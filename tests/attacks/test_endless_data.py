"""Endless data: metadata that grow until the device has no memory left.

The attacker holds the online keys, so the length that the timestamp promises is the attacker's
word too: only the device's own limit is left.
"""

from __future__ import annotations

from tuf.api.metadata import Metadata, Snapshot

from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import V2, AttackedDevice
from tests.support.trust import SignedFleet


class Padded(SignedFleet):
    """Signs snapshots of 3 MB from now on."""

    def __post_init__(self) -> None:
        self.padding = 0
        super().__post_init__()

    def change_snapshot(self, snapshot: Metadata[Snapshot]) -> None:
        if self.padding:
            snapshot.signed.unrecognized_fields["x"] = "x" * self.padding


def play(device: AttackedDevice) -> None:
    """A well-signed snapshot, larger than any that a fleet needs."""
    assert isinstance(device.fleet, Padded)
    device.fleet.padding = 3 << 20
    device.server.assign(V2)


ATTACK = Attack(play=play, bad=V2, says="snapshot.json", check="size", fleet=Padded)


def test_metadata_without_end_are_refused(device: Devices) -> None:
    """At the limit, before they are parsed; a snapshot of ordinary size is believed again."""
    one = play_guarded(ATTACK, device)
    assert isinstance(one.fleet, Padded)
    one.fleet.padding = 0
    recover(one, one.fleet)


def test_control_without_limits(device: Devices) -> None:
    """An agent that takes any size installs what comes with it."""
    play_control(ATTACK, device)
