"""Key compromise below the threshold: one of the two keys that a root needs was stolen."""

from __future__ import annotations

from tuf.api.metadata import Root

from edge_sdk import trust
from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import BAD, AttackedDevice
from tests.support.trust import SignedFleet, new_key


def fleet() -> SignedFleet:
    return SignedFleet(root_keys=[new_key(), new_key()])


def play(device: AttackedDevice) -> None:
    """A second root, signed by the stolen key alone, that names the attacker's keys."""
    honest = device.fleet
    other = SignedFleet(root_keys=[new_key()], at=honest.at)
    first = trust.read("root", device.factory_root, Root)
    names = {
        "targets": other.targets_key,
        "snapshot": other.snapshot_key,
        "timestamp": other.timestamp_key,
    }
    root = first
    for role, key in names.items():
        root = trust.with_keys(root, role, [key.public_key], 1, honest.at)
    root.signed.version = 2
    for _ in range(9):
        other.put([])
    other.files["1.root.json"] = device.factory_root
    other.files["2.root.json"] = trust.sign(root, [honest.root_keys[0]])
    device.server.signed = other
    device.server.assign(BAD)


ATTACK = Attack(play=play, bad=BAD, says="root", check="threshold", fleet=fleet)


def test_one_of_two_signatures_is_refused(device: Devices) -> None:
    """The device stays with the root that it has."""
    one = play_guarded(ATTACK, device)
    recover(one, one.fleet)


def test_control_that_takes_one_signature_for_enough(device: Devices) -> None:
    """An agent that does not count to the threshold belongs to whoever has one key."""
    play_control(ATTACK, device)
