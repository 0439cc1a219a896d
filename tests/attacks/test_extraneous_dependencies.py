"""Extraneous dependencies: the way to a good version leads over one that nobody signed.

Plans are hints of the distributor: it may say that version 2 is reached in two steps, and what
lies between would be written, kept and used as a source.
"""

from __future__ import annotations

from tests.attacks.conftest import Attack, Devices, play_guarded, recover
from tests.support.attacked_device import BAD, AttackedDevice, artifact

V4 = artifact("4.0.0")


def play(device: AttackedDevice) -> None:
    """Version 4 is signed; the artifact that the plan goes by is not."""
    honest, device.server.signed = device.fleet, None
    device.server.publish(BAD)
    device.server.signed = honest
    device.server.hubs[V4.artifact] = BAD.artifact
    device.server.assign(V4)


ATTACK = Attack(play=play, bad=BAD, says="nobody who may signed", check="steps")


def test_a_step_that_nobody_signed_is_refused(device: Devices) -> None:
    """Neither the step nor what lies behind it is fetched."""
    one = play_guarded(ATTACK, device)
    assert not one.is_installed(V4)
    assert not _built_on_bad(one)
    recover(one, one.fleet)


def test_control_without_looking_at_steps(device: Devices) -> None:
    """An agent that only looks at where a plan ends writes what lies between, and builds on it.

    What lies between is removed again once it was used, so that is asked for, not that it stays.
    """
    one = device(ATTACK, control=ATTACK.check)
    ATTACK.play(one)
    one.wait_until_runs(V4)
    assert _built_on_bad(one)


def _built_on_bad(device: AttackedDevice) -> bool:
    """A delta from the unsigned artifact was fetched: the device holds what it starts from."""
    server = device.server
    return any(server.sources_of[delta] == BAD.artifact for delta, _, _ in server.fetches)
