"""One way in which every attack on trust is played."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.artifacts import ArtifactBytes
from tests.support.attacked_device import V1, V3, AttackedDevice
from tests.support.shifted_clock import ShiftedClock
from tests.support.trust import SignedFleet

Play = Callable[[AttackedDevice], None]


@dataclass(frozen=True, kw_only=True)
class Attack:
    """What an attacker does, and what has to stop it.

    play: the attacker's acts, on a device that runs version 1. bad: what must not be installed.
    says: in the reason, message or check of the refusal that is reported. check: the one that a
    control does without (see tests/support/controls). damaged: the smallest set of cached
    metadata files without which an agent with no other memory would give in.
    """

    play: Play
    bad: ArtifactBytes
    says: str
    check: str
    damaged: tuple[str, ...] = ("timestamp.json", "snapshot.json")
    fleet: Callable[[], SignedFleet] = SignedFleet
    before: Play = field(default=lambda device: None)  # honest history that matters to it
    seam: str = ""  # changes values of the guarded agent, never a check
    control_damaged: bool = False  # only a device that lost those files needs the check
    in_1970: bool = False  # by the device's clock


Devices = Callable[..., AttackedDevice]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Devices]:
    made: list[AttackedDevice] = []

    def make(attack: Attack, *, control: str = "") -> AttackedDevice:
        folder = tmp_path / (control or "guarded")
        folder.mkdir()
        one = AttackedDevice(folder, fleet=attack.fleet(), control=control or attack.seam)
        made.append(one)
        if attack.in_1970:
            clock = ShiftedClock(folder)
            clock.set(3600)
            one.environment = clock.environment
        one.server.assign(V1)
        one.start()
        one.wait_until_runs(V1)
        attack.before(one)
        return one

    yield make
    for one in made:
        one.close()


def start(device: Devices, *, control: str = "") -> AttackedDevice:
    """A device that runs version 1, for attacks with a course of their own."""
    return device(Attack(play=lambda one: None, bad=V3, says="", check=""), control=control)


def play_guarded(attack: Attack, device: Devices) -> AttackedDevice:
    """The attack, the attack on a device with damaged caches, and the honest end of it."""
    one = device(attack)
    seen = len(one.server.events)
    attack.play(one)
    _expect_refusal(attack, one, seen)
    with one.crash(attack.damaged):
        one.server.events.clear()
    _expect_refusal(attack, one, 0)
    return one


def _expect_refusal(attack: Attack, one: AttackedDevice, seen: int) -> None:
    refusal = one.refusal(after=seen)
    told = f"{refusal.reason} {refusal.message} {dict(refusal.facts)}"
    assert attack.says in told, told
    assert not one.is_installed(attack.bad)
    assert one.active() == V1.artifact


def play_control(attack: Attack, device: Devices) -> None:
    """Without its one check the agent installs what the attacker wants."""
    one = device(attack, control=attack.check)
    if attack.control_damaged:
        with one.crash(attack.damaged):
            attack.play(one)
    else:
        attack.play(one)
    one.wait(lambda: one.is_installed(attack.bad), "the control to install what is bad")


def recover(one: AttackedDevice, fleet: SignedFleet) -> None:
    """The honest distributor is back: the device finds its way by itself."""
    one.server.signed = fleet
    one.server.assign(V3)
    one.wait_until_runs(V3)
