"""A clock at 1970: for the device nothing has expired, and nothing is valid yet.

The attacker has the network and no key, and keeps an assignment back until it is over. The real
clock of the device is shifted, for Python, gRPC and OpenSSL alike.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

import pytest

from edge_sdk.fleet import Cohort, Draft, Fleet, begin
from edge_sdk.manifest import Assignment
from tests.attacks.conftest import Attack, Devices, play_control, play_guarded, recover
from tests.support.attacked_device import MODEL, V2, AttackedDevice
from tests.support.enrolled import SecuredFleet, secured_fleet
from tests.support.fleet_on_loopback import FAST_PROBATION
from tests.support.processes import Command, stopping, wait_for
from tests.support.shifted_clock import ShiftedClock
from tests.support.signed_fleet import key_folder
from tests.support.trust import SignedFleet

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


class Withheld(SignedFleet):
    """Assignments end ``age_s`` before now, where that is not 0."""

    age_s = 0

    def assign(self, assignment: Assignment) -> bytes:
        ended = int(self.at.timestamp()) - self.age_s if self.age_s else None
        return super().assign(dataclasses.replace(assignment, expires_s=ended))


def play(device: AttackedDevice) -> None:
    """Well signed, newer than all the device knows, and over since two days."""
    assert isinstance(device.fleet, Withheld)
    device.fleet.age_s = 172_800
    device.server.assign(V2)
    device.fleet.age_s = 0


ATTACK = Attack(
    play=play,
    bad=V2,
    says="has expired",
    check="clock",
    fleet=Withheld,
    in_1970=True,
)


def test_what_was_over_at_the_last_signed_time_is_refused(device: Devices) -> None:
    """The last verified timestamp says what time it is at least, also where its cached copy is
    lost; an assignment of today is taken, in 1970 and later."""
    one = play_guarded(ATTACK, device)
    recover(one, one.fleet)


def test_control_without_the_last_signed_time(device: Devices) -> None:
    """An agent that believes its clock alone installs what is over."""
    play_control(ATTACK, device)


def _publish(fleet: Fleet, folder: Path, version: str) -> None:
    path = folder / version / "model.bin"
    path.parent.mkdir()
    path.write_bytes(version.encode() * 1000)
    fleet.publish(path, Draft(model=MODEL, version=version, variant="fp32", serve="none"))


def _roll_out(fleet: Fleet, version: str) -> str:
    created = fleet.rollout_create(MODEL, version, Cohort(devices=("gate-7",)))
    return list(fleet.rollout_watch(created.rollout, timeout_s=60))[-1].state


def _enrolled(secured: SecuredFleet, folder: Path, clock: ShiftedClock) -> Command:
    token = folder / "token"
    token.write_text(secured.token(name="gate-7").encode())
    token.chmod(0o600)
    return Command(
        "device_agent.cli",
        ["run", "--state", str(folder / "state"), "--token-file", str(token)],
        folder / "agent.log",
        {**FAST_PROBATION, **clock.environment, "EDGE_AGENT_FAST_LANE": "false"},
    ).start()


def test_a_device_in_1970_comes_in_and_updates(tmp_path: Path) -> None:
    """It enrols, connects by TLS with a certificate that for its clock is not valid yet, and
    installs signed versions; the same process goes on as soon as its clock is right."""
    clock = ShiftedClock(tmp_path)
    clock.set(3600)
    assert clock.year() == 1970
    with secured_fleet(tmp_path / "fleet") as secured:
        keys = key_folder(tmp_path / "keys")
        address = secured.server.serving.operator_address
        with Fleet(address, identity=secured.ann, keys=keys) as fleet:
            begin(fleet.metadata, keys, ["team"])
            _publish(fleet, tmp_path, "1.0.0")
            with stopping(_enrolled(secured, tmp_path, clock)):
                wait_for(fleet.devices, "the first check-in")
                assert _roll_out(fleet, "1.0.0") == "done"
                clock.set(time.time())
                _publish(fleet, tmp_path, "2.0.0")
                assert _roll_out(fleet, "2.0.0") == "done"
