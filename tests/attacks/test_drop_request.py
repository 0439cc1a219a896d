"""Drop-request: requests for metadata never get an answer, and everything else does."""

from __future__ import annotations

from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import V2, AttackedDevice


def play(device: AttackedDevice) -> None:
    """The assignment comes, and what would prove it does not."""
    device.server.assign(V2)
    device.server.metadata_gone = True


ATTACK = Attack(play=play, bad=V2, says="cannot be fetched", check="fail closed")


def test_nothing_is_taken_on_trust_meanwhile(device: Devices) -> None:
    """The refusal says what could not be had; when it comes, all goes on."""
    one = play_guarded(ATTACK, device)
    one.server.metadata_gone = False
    recover(one, one.fleet)


def test_control_that_fails_open(device: Devices) -> None:
    """An agent that goes on without metadata installs what nobody proved."""
    play_control(ATTACK, device)
