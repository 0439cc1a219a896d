"""Malicious mirror: everything is served by somebody who holds none of the keys.

What it serves is consistent in itself: signed by keys of its own, with right lengths and hashes.
"""

from __future__ import annotations

from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import BAD, AttackedDevice
from tests.support.trust import SignedFleet


def play(device: AttackedDevice) -> None:
    """The honest first root, and from there on another fleet, with higher versions."""
    other = SignedFleet(namespaces=("team",), at=device.fleet.at)
    for _ in range(9):
        other.put([])
    other.files["1.root.json"] = device.factory_root
    device.server.signed = other
    device.server.assign(BAD)


ATTACK = Attack(play=play, bad=BAD, says="timestamp", check="signature")


def test_what_a_mirror_made_up_is_refused(device: Devices) -> None:
    """Its signatures are of keys that no root names."""
    one = play_guarded(ATTACK, device)
    recover(one, one.fleet)


def test_control_without_signatures(device: Devices) -> None:
    """An agent that does not verify signatures of metadata installs what the mirror wants."""
    play_control(Attack(play=play, bad=BAD, says="", check="signature,envelope"), device)
