"""Mixed bundle: of two models that belong together only one can be fetched."""

from __future__ import annotations

from tests.attacks.conftest import Attack, Devices
from tests.support.attacked_device import V1, V2, AttackedDevice, artifact

EARS = artifact("2.0.0", model="team/ears")


def play(device: AttackedDevice) -> None:
    """Both are signed and assigned as one group; no plan leads to one of them."""
    device.server.withheld = {EARS.artifact}
    device.server.assign(V2, EARS, together=True)


ATTACK = Attack(play=play, bad=V2, says="", check="group")


def test_half_a_bundle_does_not_switch(device: Devices) -> None:
    """The half that is there waits, loaded and proved, for the other; then both switch."""
    one = device(ATTACK)
    ATTACK.play(one)
    one.wait(lambda: "tried" in one.server.states(V2), "the half to be ready")
    told = one.wait(
        lambda: [e for e in one.server.events if e.model == "team/ears" and e.reason], "why"
    )
    assert told[0].reason == "NotFoundError"
    assert one.active() == V1.artifact
    with one.crash(ATTACK.damaged):
        heard = len(one.server.check_ins)
    one.wait(lambda: len(one.server.check_ins) > heard + 3, "it to go on living")
    assert one.active() == V1.artifact
    one.server.withheld = set()
    one.wait_until_runs(V2)
    one.wait_until_runs(EARS)


def test_control_that_does_not_wait(device: Devices) -> None:
    """An agent without the rule of groups runs the half."""
    one = device(ATTACK, control=ATTACK.check)
    ATTACK.play(one)
    one.wait(lambda: one.active() == V2.artifact, "the half to run")
