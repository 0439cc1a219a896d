"""Mix-and-match: documents that never belonged together.

The attacker holds the snapshot and timestamp keys and names an older document of a namespace,
in which a version still stands that was signed by a key that was stolen since and was taken out.
"""

from __future__ import annotations

from edge_sdk import trust
from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import V2, AttackedDevice

OLD: dict[int, tuple[int, bytes]] = {}


def before(device: AttackedDevice) -> None:
    """Version 2 was a target once; the publisher withdrew it, and the device has seen that."""
    fleet = device.fleet
    fleet.publish(V2.document)
    document = fleet.targets_of("ns_team")
    OLD[id(device)] = (document.signed.version, fleet.newest("ns_team"))
    device.withdraw(V2)


def play(device: AttackedDevice) -> None:
    """A new snapshot, well signed, over the old document of the namespace."""
    device.fleet.publish = lambda document, *, floor=None: ""  # type: ignore[method-assign]
    device.fleet.put_snapshot({"ns_team": OLD[id(device)]})
    device.server.assign(V2)


ATTACK = Attack(
    play=play,
    bad=V2,
    says="ns_team",
    check="marks",
    before=before,
    damaged=("snapshot.json",),
    control_damaged=True,
)


def test_an_older_document_below_a_newer_snapshot_is_refused(device: Devices) -> None:
    """Also where the snapshot that knew better is lost: its marks are put back."""
    one = play_guarded(ATTACK, device)
    del one.fleet.publish
    newest = trust.edited(
        one.fleet.targets_of("ns_team"), expires=one.fleet.targets_of().signed.expires
    )
    one.fleet.put([("ns_team", newest, one.fleet.publishers["team"])])
    recover(one, one.fleet)


def test_control_without_marks(device: Devices) -> None:
    """An agent that lost its snapshot, and has no marks, believes the mix."""
    play_control(ATTACK, device)
