"""Endless data: metadata that grow until the device has no memory left, downloads without end.

The attacker holds the online keys, so the length that the timestamp promises is the attacker's
word too: only the device's own limit is left. Of a download the device knows how long it is, and
without that knowledge nothing bad would be installed, but nothing good either, for ever.
"""

from __future__ import annotations

import pytest
from tuf.api.metadata import Metadata, Snapshot

from edge_sdk.rpc import FRAME_BYTES
from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover, start
from tests.support.attacked_device import V1, V2, AttackedDevice
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


@pytest.mark.parametrize("frame", [b"", bytes(FRAME_BYTES)], ids=["nothing", "too much"])
def test_a_download_without_end_is_ended(device: Devices, frame: bytes) -> None:
    """Frames of nothing, or of more than was asked for: told, and tried again later; also by a
    device that lost what it knew of the newest metadata while that went on."""
    one = start(device)
    one.server.endless = frame
    one.server.assign(V2)
    _expect_an_end(one)
    with one.crash(ATTACK.damaged):
        one.server.events.clear()
    _expect_an_end(one)
    one.server.endless = None
    recover(one, one.fleet)


def _expect_an_end(one: AttackedDevice) -> None:
    sent = one.server.sent_bytes
    told = one.wait(lambda: [e for e in one.server.events if e.artifact and e.reason], "a report")
    assert "other bytes than were asked for" in told[0].message
    assert one.server.sent_bytes - sent < 32 << 20
    assert one.active() == V1.artifact


def test_control_that_takes_whatever_comes(device: Devices) -> None:
    """An agent that does not count goes on with the first download, and tells nobody."""
    one = start(device, control="announced")
    one.server.endless = b""
    seen = len(one.server.events)
    one.server.assign(V2)
    one.wait(lambda: one.server.endless_frames > 20_000, "it to go on and on")
    assert len(set(one.server.fetches[1:])) == 1
    assert not [event for event in one.server.events[seen:] if event.reason]
    one.server.endless = None
