"""Fast-forward: a stolen timestamp key signs a version so high that no honest one can follow.

Nothing bad is installed by it; the harm would be that nothing good ever is again. So the bad
thing of this attack is an honest update that does not come, and the control shows that.
"""

from __future__ import annotations

from tuf.api.metadata import Root, Timestamp

from edge_sdk import trust
from tests.attacks.conftest import Devices, start
from tests.support.attacked_device import V2, AttackedDevice
from tests.support.trust import new_key


def attack(device: AttackedDevice) -> None:
    """The timestamp jumps, and the device has seen it."""
    fleet = device.fleet
    jumped = trust.read("timestamp", fleet.newest("timestamp"), Timestamp)
    jumped.signatures.clear()
    jumped.signed.version = 10**15
    honest = fleet.files["timestamp.json"]
    fleet.files["timestamp.json"] = trust.sign(jumped, [fleet.timestamp_key])
    device.look()
    fleet.files["timestamp.json"] = honest


def rotate(device: AttackedDevice) -> None:
    """What the owners of the root do: another timestamp key."""
    fleet = device.fleet
    fleet.timestamp_key = new_key()
    root = trust.read("root", fleet.newest("root"), Root)
    root = trust.with_keys(root, "timestamp", [fleet.timestamp_key.public_key], 1, fleet.at)
    fleet.put_root(root, fleet.root_keys)
    fleet.put([])


def test_a_new_key_ends_it(device: Devices) -> None:
    """Refused as long as the stolen key counts; after its rotation the next honest version is
    installed, with caches as they are and with damaged ones."""
    one = start(device)
    attack(one)
    one.server.assign(V2)
    assert "version" in one.refusal().message
    assert not one.is_installed(V2)
    with one.crash(["timestamp.json"]):
        one.server.events.clear()
    assert "version" in one.refusal().message
    rotate(one)
    one.wait_until_runs(V2)


def test_control_with_marks_that_nobody_verifies(device: Devices) -> None:
    """An agent that takes the highest version it ever saw for true is stuck for good."""
    one = start(device, control="bare marks")
    attack(one)
    rotate(one)
    seen = len(one.server.events)
    one.server.assign(V2)
    assert "version" in one.refusal(after=seen).message
    assert not one.is_installed(V2)
