"""Operators come into a fleet and decide who else does: the API and the commands, over TLS."""

from __future__ import annotations

import json
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_sdk.base import (
    ConflictError,
    FormatError,
    NotFoundError,
    RefusedError,
    TrustError,
    UsageError,
)
from edge_sdk.fleet import OwnIdentity
from edge_sdk.fleet.cli import cli
from edge_sdk.identity import EnrolmentToken, Pending, enrol, first_contact, make_key
from tests.support.enrolled import DAY_S, SecuredFleet, secured_fleet

pytestmark = pytest.mark.distributor


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredFleet]:
    with secured_fleet(tmp_path_factory.mktemp("s")) as one:
        yield one


@pytest.fixture
def as_ann(fleet: SecuredFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are ann's, who is logged in."""
    monkeypatch.setenv("EDGE_FLEET_IDENTITY", str(fleet.data.parent / "ann"))
    monkeypatch.delenv("EDGE_FLEET_DISTRIBUTOR", raising=False)


def _run(*arguments: str) -> Result:
    ran = CliRunner().invoke(cli, list(arguments))
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran


def _json(*arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(_run(*arguments, "--json").stdout)
    return found


def test_what_others_can_get_at_is_not_used(
    fleet: SecuredFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ssh: a key that others can read and a folder into which they can write are refused,
    saying which and what to do; in a login, too."""
    home = tmp_path / "home"
    shutil.copytree(fleet.data.parent / "ann", home)
    monkeypatch.setenv("EDGE_FLEET_IDENTITY", str(home))
    assert OwnIdentity(home).load() is not None
    for path, open_mode in ((home, 0o777), (home / "key.pem", 0o640)):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(open_mode)
        with pytest.raises(RefusedError, match=rf"{path}.*mode {open_mode:04o}.*chmod"):
            OwnIdentity(home).load()
        path.chmod(mode)
    home.chmod(0o777)
    token = fleet.token(kind="operator", name="zoe")
    with pytest.raises(RefusedError, match="chmod 700"):
        OwnIdentity(home).log_in(token, "zoe")


def test_logging_in(fleet: SecuredFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file, standard input or the environment; the key stays in a folder for its owner,
    and what was there before goes on working where it fails."""
    for name, how in (("bob", "file"), ("eve", "stdin"), ("dan", "environment")):
        home = tmp_path / name
        text = fleet.token(kind="operator", name=name).encode()
        arguments = ["--operator", name, "--identity", str(home), "login", "--json"]
        given = None
        if how == "file":
            (tmp_path / "t").write_text(text)
            arguments += ["--token-file", str(tmp_path / "t")]
        elif how == "stdin":
            arguments += ["--token-file", "-"]
            given = text
        else:
            monkeypatch.setenv("EDGE_FLEET_TOKEN", text)
        ran = CliRunner().invoke(cli, arguments, input=given)
        assert json.loads(ran.stdout)["operator"] == name
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert {stat.S_IMODE(one.stat().st_mode) for one in home.iterdir()} == {0o600}
    home = tmp_path / "bob"
    before = OwnIdentity(home).load()
    for wrong, error in (
        (fleet.token(), UsageError),
        (EnrolmentToken.decode((tmp_path / "t").read_text()), TrustError),
    ):
        with pytest.raises(error):
            OwnIdentity(home).log_in(wrong, "zoe")
    assert OwnIdentity(home).load() == before
    with pytest.raises(UsageError, match="give the token"):
        _run("login")
    with pytest.raises(UsageError, match="cannot read"):
        _run("login", "--token-file", str(tmp_path / "gone"))


def test_a_login_that_is_refused_leaves_no_key(fleet: SecuredFleet, tmp_path: Path) -> None:
    """A token that others used up, or that is for a name that is taken, leaves the folder as it
    was; a key that waits for a lost answer stays."""
    used = fleet.token(kind="operator", name="kim")
    OwnIdentity(tmp_path / "a").log_in(used, "kim")
    with pytest.raises(TrustError):
        OwnIdentity(tmp_path / "b").log_in(used, "kim")
    assert list((tmp_path / "b").iterdir()) == []
    waiting = tmp_path / "b" / f"{used.token}.key.pem"
    waiting.touch(mode=0o600)
    waiting.write_bytes(make_key())
    with pytest.raises(TrustError):
        OwnIdentity(tmp_path / "b").log_in(used, "kim")
    assert waiting.exists()


def test_an_operator_renews_by_the_way(fleet: SecuredFleet, tmp_path: Path) -> None:
    """In the last third of its life, or after its end, a certificate is renewed by any command;
    a damaged folder says what to do."""
    home = tmp_path / "kim"
    with fleet.operator() as operator:
        operator.operators.add("kim", ["viewer"])
    OwnIdentity(home).log_in(fleet.token(kind="operator", name="kim"), "kim")
    first = OwnIdentity(home).load()
    assert first is not None
    assert OwnIdentity(home).fresh() == first
    later = OwnIdentity(home, now_s=lambda: time.time() + 25 * DAY_S).fresh()
    assert later is not None
    assert later.facts.serial != first.facts.serial
    over = OwnIdentity(home, now_s=lambda: time.time() + 40 * DAY_S).fresh()
    assert over is not None
    assert over.facts.serial != later.facts.serial
    (home / "enrolment.json").write_text("{")
    assert OwnIdentity(home).address() == ""
    with pytest.raises(FormatError, match="log in again"):
        OwnIdentity(home).load()


@pytest.mark.usefixtures("as_ann")
def test_tokens(fleet: SecuredFleet, tmp_path: Path) -> None:
    """Made to a file for its owner or to standard output, listed without secrets, revoked."""
    file = tmp_path / "t"
    create = ("devices", "token", "create", "--without-root")
    made = _json(*create, "--uses", "2", "--output", str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    decoded = EnrolmentToken.decode(file.read_text())
    assert decoded.token == made["token"]
    assert decoded.secret not in json.dumps(made)
    with pytest.raises(ConflictError):
        _run(*create, "--output", str(file))
    shown = _run(*create, "--name", "gate-1", "--approval").stdout
    assert EnrolmentToken.decode(shown.splitlines()[0]).name == "gate-1"
    assert "text" in _json(*create)
    listed = _run("devices", "token", "list").stdout
    assert "gate-1" in listed
    assert decoded.secret not in listed
    assert "revoked" in _run("devices", "token", "revoke", decoded.token).stdout
    assert _json("devices", "token", "revoke", decoded.token)["revoked"]
    tokens = _json("devices", "token", "list")["tokens"]
    assert decoded.secret not in json.dumps(tokens)
    with pytest.raises(TrustError, match="revoked"):
        enrol(decoded, first_contact(decoded), make_key(), "gate-2")
    with pytest.raises(NotFoundError):
        _run("devices", "token", "revoke", "nothing")
    factory = _run("devices", "token", "factory", "--without-root").stdout
    assert EnrolmentToken.decode(factory).secret == ""
    asked = _json("devices", "token", "factory", "--without-root")
    assert EnrolmentToken.decode(str(asked["text"])).uses == 0


@pytest.mark.usefixtures("as_ann")
def test_a_token_that_names_no_root(fleet: SecuredFleet) -> None:
    """Whoever came with it would install nothing, so none is made before the fleet has a root."""
    before = len(fleet.operator().identities.tokens())
    for kind in ("create", "factory"):
        with pytest.raises(RefusedError, match="keys init"):
            _run("devices", "token", kind)
    assert len(fleet.operator().identities.tokens()) == before


@pytest.mark.usefixtures("as_ann")
def test_letting_in_and_throwing_out(fleet: SecuredFleet) -> None:
    """Who waits is listed and approved; who is thrown out is listed as that."""
    token = fleet.token(approval=True)
    key = make_key()
    assert isinstance(enrol(token, first_contact(token), key, "gate-3"), Pending)
    assert "gate-3" in _run("devices", "pending").stdout
    (waiting,) = _json("devices", "pending")["identities"]  # type: ignore[misc]
    assert waiting["state"] == "pending"
    assert "active" in _run("devices", "approve", "gate-3").stdout
    assert _json("devices", "approve", "gate-4", "--factory-serial", "S")["state"] == "approved"
    assert "revoked" in _run("devices", "revoke", "gate-3", "--reason", "stolen").stdout
    (gone,) = _json("devices", "identities", "--state", "revoked")["identities"]  # type: ignore[misc]
    assert (gone["name"], gone["reason"]) == ("gate-3", "stolen")
    assert "stolen" in _run("devices", "identities").stdout
    assert _run("devices", "identities", "--state", "revokd").exit_code == 2
