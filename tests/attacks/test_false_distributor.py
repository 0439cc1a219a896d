"""False distributor at first contact: a new device calls, and somebody else answers.

A device that holds nothing yet has only its token, which came by another way. What the attack is
after is the secret, and to be what the device believes from then on. Contact is first once more
where a device lost its certificate: then the two copies of its factory root, kept since, are all
that could stand beside the token, and the smallest damage is that both are gone as well.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.identity import make_authority
from edge_sdk.identity import EnrolmentToken
from tests.support.attacked_device import CONTROLS, ROOT
from tests.support.false_distributor import FalseDistributor
from tests.support.processes import environment, program
from tests.support.trust import SignedFleet

HONEST = SignedFleet()
EVIL = SignedFleet()
ROOTS = ("root.json", "root.copy.json")


@pytest.fixture
def false() -> Iterator[FalseDistributor]:
    one = FalseDistributor(root=EVIL.root).start()
    yield one
    one.stop()


def enrol(
    folder: Path, token: EnrolmentToken, *, control: str = ""
) -> subprocess.CompletedProcess[str]:
    """The product's own command, with the token on its standard input."""
    extra = {"EDGE_TEST_CONTROL": control, "PYTHONPATH": f"{ROOT}:{CONTROLS}"} if control else {}
    arguments = ["enrol", "--state", str(folder / "state"), "--token-file", "-", "--no-wait"]
    return subprocess.run(
        [*program("device_agent.cli"), *arguments],
        input=token.encode(),
        capture_output=True,
        text=True,
        env=environment(**extra),
        timeout=60,
        check=False,
    )


def digest(root: bytes) -> str:
    return hashlib.sha256(root).hexdigest()


def root_of(folder: Path) -> bytes | None:
    path = folder / "state" / "trust" / "root.json"
    return path.read_bytes() if path.exists() else None


def lose(folder: Path, *roots: str) -> None:
    """The certificate and these copies of the root are gone, as after bad flash blocks."""
    (folder / "state" / "identity" / "certificate.pem").unlink()
    for name in roots:
        (folder / "state" / "trust" / name).unlink()


def is_enrolled(folder: Path) -> bool:
    return (folder / "state" / "identity" / "certificate.pem").exists()


def test_another_authority_is_told_nothing(tmp_path: Path, false: FalseDistributor) -> None:
    """It never hears the secret, and the refusal says why; the same device then enrols with the
    fleet that the token means."""
    honest = FalseDistributor(root=HONEST.root).start()
    try:
        refused = enrol(tmp_path, false.token(honest.authority, root=digest(HONEST.root)))
        assert refused.returncode != 0
        assert "its authority is another one; nothing was sent to it" in refused.stderr
        assert false.asked == 1
        assert false.heard == []
        assert not is_enrolled(tmp_path)
        assert root_of(tmp_path) is None
        taken = enrol(tmp_path, honest.token(honest.authority, root=digest(HONEST.root)))
        assert taken.returncode == 0, taken.stderr
        assert root_of(tmp_path) == HONEST.root
        lose(tmp_path, *ROOTS)
        again = enrol(tmp_path, false.token(honest.authority, root=digest(HONEST.root)))
        assert "its authority is another one; nothing was sent to it" in again.stderr
        assert false.heard == []
        assert not is_enrolled(tmp_path)
    finally:
        honest.stop()


def test_control_that_does_not_compare_authorities(tmp_path: Path, false: FalseDistributor) -> None:
    """An agent without the comparison tells its secret, and is the attacker's."""
    token = false.token(make_authority(), root=digest(EVIL.root))
    enrolled = enrol(tmp_path, token, control="authority")
    assert enrolled.returncode == 0, enrolled.stderr
    assert false.heard
    assert is_enrolled(tmp_path)


def test_another_root_is_not_believed(tmp_path: Path, false: FalseDistributor) -> None:
    """Who can show the right authority (its certificate is no secret), and a root of its own."""
    refused = enrol(tmp_path, false.token(false.authority, root=digest(HONEST.root)))
    assert refused.returncode != 0
    assert "another TUF root than the token" in refused.stderr
    assert false.heard == []
    assert root_of(tmp_path) is None


def test_another_root_is_not_believed_by_a_device_that_lost_its_own(
    tmp_path: Path, false: FalseDistributor
) -> None:
    """Certificate and both copies of the root are gone: the token alone still says which root,
    and the device gets back to it by itself."""
    own = false.token(false.authority, root=digest(HONEST.root))
    false.root = HONEST.root
    assert enrol(tmp_path, own).returncode == 0
    false.heard.clear()
    false.root = EVIL.root
    lose(tmp_path, *ROOTS)
    refused = enrol(tmp_path, own)
    assert "another TUF root than the token" in refused.stderr
    assert false.heard == []
    assert root_of(tmp_path) is None
    false.root = HONEST.root
    assert enrol(tmp_path, own).returncode == 0
    assert root_of(tmp_path) == HONEST.root


def test_control_that_does_not_compare_roots(tmp_path: Path, false: FalseDistributor) -> None:
    """An agent without the comparison begins all its trust with the attacker; one that enrolled
    before does as soon as it lost both copies of its root, and not before."""
    token = false.token(false.authority, root=digest(HONEST.root))
    enrolled = enrol(tmp_path, token, control="root digest")
    assert enrolled.returncode == 0, enrolled.stderr
    assert root_of(tmp_path) == EVIL.root
    for name in ROOTS:
        (tmp_path / "state" / "trust" / name).write_bytes(HONEST.root)
    lose(tmp_path, ROOTS[1])
    assert enrol(tmp_path, token, control="root digest").returncode == 0
    assert root_of(tmp_path) == HONEST.root
    lose(tmp_path, ROOTS[0])
    assert enrol(tmp_path, token, control="root digest").returncode == 0
    assert root_of(tmp_path) == EVIL.root


def test_a_root_that_the_token_does_not_name(tmp_path: Path, false: FalseDistributor) -> None:
    """A token of a fleet that signed nothing yet vouches for none: what is shown is not kept,
    since whoever answered first proved nothing."""
    enrolled = enrol(tmp_path, false.token(false.authority, root=""))
    assert enrolled.returncode == 0, enrolled.stderr
    assert is_enrolled(tmp_path)
    assert root_of(tmp_path) is None
