"""Key compromise: one of two keys that a root needs, or keys that were taken out since."""

from __future__ import annotations

from tuf.api.metadata import Root, Snapshot, Targets

from edge_sdk import trust
from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import BAD, V2, AttackedDevice
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


# -- keys that were taken out after they were stolen ------------------------------------------

FILES: dict[int, dict[str, bytes]] = {}  # of the attacker, by device: as all was before


def new_online_keys(fleet: SignedFleet) -> None:
    """A second root names them."""
    fleet.snapshot_key, fleet.timestamp_key = new_key(), new_key()
    root = trust.read("root", fleet.newest("root"), Root)
    for role, key in (("snapshot", fleet.snapshot_key), ("timestamp", fleet.timestamp_key)):
        root = trust.with_keys(root, role, [key.public_key], 1, fleet.at)
    root.signed.version = 2
    fleet.put_root(root, fleet.root_keys)


def rotate_publisher(device: AttackedDevice) -> None:
    """The publisher's key was stolen, and another one answers for the namespace since."""
    fleet = device.fleet
    FILES[id(device)] = dict(fleet.files)
    device.stolen = fleet.publishers["team"]
    fresh = fleet.publishers["team"] = new_key()
    targets = trust.delegate_namespace(fleet.targets_of(), "team", [fresh.public_key], now=fleet.at)
    same = trust.edited(fleet.targets_of("ns_team"), expires=targets.signed.expires)
    fleet.put([("targets", targets, fleet.targets_key), ("ns_team", same, fresh)])
    device.look()


def sign_as_publisher(device: AttackedDevice) -> None:
    """The stolen key signs the bad artifact; the online keys, stolen as well, bind it to what
    named that key once."""
    fleet, old = device.fleet, FILES[id(device)]
    device.kept_files = dict(fleet.files)
    targets = trust.read("targets", old["1.targets.json"], Targets)
    said = BAD.manifest
    path = trust.target_path(said.model, said.version, said.variant)
    evil = trust.add_target(fleet.targets_of("ns_team"), path, BAD.document, {}, now=fleet.at)
    assert evil is not None
    assert device.stolen is not None
    data = trust.sign(evil, [device.stolen])
    version = evil.signed.version
    fleet.files[trust.file_name("ns_team", version)] = data
    fleet.put_snapshot(
        {"targets": (1, trust.sign(targets, [fleet.targets_key])), "ns_team": (version, data)}
    )
    fleet.publish = lambda document, *, floor=None: ""  # type: ignore[method-assign]
    device.server.assign(BAD)


PUBLISHER = Attack(
    play=sign_as_publisher,
    bad=BAD,
    says="targets",
    check="marks",
    before=rotate_publisher,
    damaged=("snapshot.json",),
    control_damaged=True,
)


def test_a_publishers_key_that_was_taken_out_signs_nothing(device: Devices) -> None:
    """Not by way of the targets that named it once, also where the snapshot is lost that knew
    newer ones. New online keys bring the device back."""
    one = play_guarded(PUBLISHER, device)
    fleet = one.fleet
    del fleet.publish
    fleet.files.clear()
    fleet.files.update(one.kept_files)
    fleet.last_snapshot = trust.read("snapshot", fleet.newest("snapshot"), Snapshot)
    new_online_keys(fleet)
    fleet.put([])
    recover(one, fleet)


def test_control_that_forgot_the_newer_targets(device: Devices) -> None:
    """An agent that lost its snapshot, and has no marks, believes the stolen key."""
    play_control(PUBLISHER, device)


def rotate_online(device: AttackedDevice) -> None:
    """The online keys were stolen, and a second root named others; version 2 was withdrawn."""
    fleet = device.fleet
    fleet.publish(V2.document)
    FILES[id(device)] = dict(fleet.files)
    new_online_keys(fleet)
    device.withdraw(V2)


def withhold_root(device: AttackedDevice) -> None:
    """All as it was before: the second root is as if it had never been."""
    fleet = device.fleet
    device.kept_files = dict(fleet.files)
    fleet.publish = lambda document, *, floor=None: ""  # type: ignore[method-assign]
    fleet.files.clear()
    fleet.files.update(FILES[id(device)])
    device.server.assign(V2)


ROOT_LOST = Attack(
    play=withhold_root,
    bad=V2,
    says="timestamp",
    check="marks",
    before=rotate_online,
    damaged=("2.root.json",),
    control_damaged=True,
)


def test_keys_that_a_lost_root_took_out_stay_out(device: Devices) -> None:
    """One cached root is gone, and with it all memory of the rotation: its mark is put back."""
    one = play_guarded(ROOT_LOST, device)
    del one.fleet.publish
    one.fleet.files.update(one.kept_files)
    recover(one, one.fleet)


def test_control_that_forgot_a_root(device: Devices) -> None:
    """An agent that lost that one file, and has no marks, goes back to the stolen keys."""
    play_control(ROOT_LOST, device)
