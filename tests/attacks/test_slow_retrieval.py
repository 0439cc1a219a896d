"""Slow retrieval: metadata come so slowly that an update would take for ever."""

from __future__ import annotations

from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import V2, AttackedDevice


def play(device: AttackedDevice) -> None:
    """A few bytes each tenth of a second: the connection is alive all the time."""
    device.server.assign(V2)
    device.server.metadata_drips_s = 0.1


# The guarded agent's deadline is shorter than the product's: a test cannot wait two minutes.
ATTACK = Attack(play=play, bad=V2, says="took longer", check="pace", seam="patience")


def test_a_drip_is_ended(device: Devices) -> None:
    """At the deadline, with a reason; an honest pace is taken again."""
    one = play_guarded(ATTACK, device)
    one.server.metadata_drips_s = 0.0
    recover(one, one.fleet)


def test_control_with_all_the_time_in_the_world(device: Devices) -> None:
    """An agent that waits takes in the end what dripped, long after the deadline."""
    play_control(ATTACK, device)
