"""``edge-fleet operators`` and ``edge-fleet audit``, against a real distributor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_sdk.base import Digest, ResourceError
from edge_sdk.fleet import cli_identity
from edge_sdk.fleet.cli import main
from tests.support.commands import Ran, run_main

if TYPE_CHECKING:
    from tests.support.fleet_server import FleetServer

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the distributor needs 3.11")

EdgeFleet = Callable[..., Ran]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    from tests.support.operators import strict_server

    with strict_server(tmp_path_factory.mktemp("operators") / "data") as one:
        yield one


@pytest.fixture
def edge_fleet(
    server: FleetServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> EdgeFleet:
    """Runs ``edge-fleet`` as the admin ``root``, with a home of this test's own."""
    monkeypatch.setenv("EDGE_FLEET_DISTRIBUTOR", server.serving.operator_address)
    monkeypatch.setenv("EDGE_FLEET_OPERATOR", "root")
    monkeypatch.setenv("EDGE_FLEET_HOME", str(tmp_path / "home"))
    return lambda *arguments: run_main(main, [str(one) for one in arguments], capsys, monkeypatch)


def entries(edge_fleet: EdgeFleet) -> list[dict[str, str]]:
    return edge_fleet("audit", "list", "--json", "--last", 1000).document["entries"]  # type: ignore[no-any-return]


def test_operators_come_change_and_go(edge_fleet: EdgeFleet) -> None:
    """Added with roles, listed, given others, removed; each said in a line and as JSON."""
    added = edge_fleet("operators", "add", "ada", "--role", "publisher@team", "--role", "viewer")
    assert added.out == "ada: publisher@team, viewer\n"
    shown = edge_fleet("operators", "list", "--json").document["operators"]
    assert [one["roles"] for one in shown if one["operator"] == "ada"] == [
        ["publisher@team", "viewer"]
    ]
    assert "ada" in edge_fleet("operators", "list").out
    assert edge_fleet("operators", "add", "ada", "--role", "admin").code == 7
    assert edge_fleet("operators", "roles", "ada").out == "ada: no role\n"
    assert edge_fleet("operators", "remove", "ada").out == "ada is no operator any more\n"
    assert edge_fleet("operators", "remove", "ada").code == 7
    assert [one["action"] for one in entries(edge_fleet)[-3:]] == [
        "operator.add",
        "operator.roles",
        "operator.remove",
    ]


def test_an_operator_comes_with_a_token_or_not_at_all(
    edge_fleet: EdgeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is there, or a folder that is not, is said before anybody is added; where the
    disk fills up meanwhile, the token and the operator are taken back."""
    (tmp_path / "there").touch()
    add = ("operators", "add", "zoe", "--token-output")
    assert edge_fleet(*add, tmp_path / "there").code == 7
    assert edge_fleet(*add, tmp_path / "none" / "zoe.token").code == 7

    @contextmanager
    def full(*_: object, **__: object) -> Iterator[None]:
        raise ResourceError("no space left")
        yield

    with monkeypatch.context() as patched:
        patched.setattr(cli_identity, "whole_file", full)
        assert edge_fleet(*add, tmp_path / "zoe.token").code == 8
        device = ("devices", "token", "create", "--without-root", "--output")
        assert edge_fleet(*device, tmp_path / "gate.token").code == 8
    assert "zoe" not in edge_fleet("operators", "list").out
    tokens = edge_fleet("devices", "token", "list", "--json").document["tokens"]
    assert {one["revoked"] for one in tokens} == {True}
    assert edge_fleet(*add, tmp_path / "zoe.token").code == 0
    edge_fleet("operators", "remove", "zoe")


def test_wrong_roles_are_refused(edge_fleet: EdgeFleet) -> None:
    """A role that does not exist is wrong usage, the last admin's removal a refusal."""
    assert edge_fleet("operators", "add", "bob", "--role", "root").code == 2
    assert edge_fleet("operators", "add", "b/b").code == 2
    assert edge_fleet("operators", "remove", "root").code == 6


def test_who_am_i(edge_fleet: EdgeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is told one's name and roles; who is no operator is told so, with exit code 4."""
    assert edge_fleet("operators", "whoami", "--json").document["roles"] == ["admin"]
    monkeypatch.setenv("EDGE_FLEET_OPERATOR", "stranger")
    ran = edge_fleet("operators", "whoami")
    assert ran.code == 4
    assert "edge-fleet operators add stranger" in ran.err


def test_a_role_that_is_missing_ends_with_6(
    edge_fleet: EdgeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A viewer who wants to add operators is told what is needed, in one line."""
    edge_fleet("operators", "add", "eve", "--role", "viewer")
    monkeypatch.setenv("EDGE_FLEET_OPERATOR", "eve")
    ran = edge_fleet("operators", "add", "mallory", "--role", "admin")
    assert ran.code == 6
    assert "needs the role admin in every namespace; you have viewer" in ran.err


def test_a_token_is_shown_once(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """The secret is on standard output alone; the log has it not; a file that could not be written
    is refused before a token is made."""
    ran = edge_fleet("operators", "token", "--role", "viewer@team", "--purpose", "ci")
    assert ran.code == 0, ran.err
    secret = ran.out.strip()
    assert secret.startswith("edgeop1.")
    assert secret not in ran.err
    file = tmp_path / "token"
    before = len(entries(edge_fleet))
    refused = edge_fleet("operators", "token", "--output", file, "--json")
    assert refused.code == 6, "nobody is logged in here"
    assert not file.exists()
    assert len(entries(edge_fleet)) == before, "a token was made that nobody gets to know"
    log = entries(edge_fleet)
    assert log[-1]["facts"]["roles"] == "viewer@team"  # type: ignore[index]
    assert log[-1]["facts"]["token"] == str(Digest.of(secret.encode()))[:12]  # type: ignore[index]
    assert secret not in str(log)


def test_the_log_is_listed_by_what_one_looks_for(edge_fleet: EdgeFleet) -> None:
    """By actor, action and object; the newest at most, oldest of them first."""
    for name in ("gina", "hugo"):
        edge_fleet("operators", "add", name, "--role", "viewer")
    found = edge_fleet("audit", "list", "--action", "operator.add", "--last", 2, "--json")
    assert [one["object"] for one in found.document["entries"]] == ["gina", "hugo"]
    found = edge_fleet("audit", "list", "--object", "gina", "--json").document["entries"]
    assert [(one["actor"], one["role"]) for one in found] == [("root", "admin")]
    assert edge_fleet("audit", "list", "--actor", "nobody", "--json").document["entries"] == []
    assert "operator.add" in edge_fleet("audit", "list", "--object", "hugo").out


def test_an_honest_log_verifies(edge_fleet: EdgeFleet) -> None:
    """At first sight the key is said and kept; afterwards it is compared with what was seen."""
    edge_fleet("operators", "add", "ivan", "--role", "viewer")
    first = edge_fleet("audit", "verify")
    assert first.code == 0
    assert "seen for the first time" in first.err
    edge_fleet("operators", "remove", "ivan")
    again = edge_fleet("audit", "verify", "--json").document
    assert again["key_known"] is True
    assert again["entries"] == again["compared_with"] + 1
    assert "it continues the" in edge_fleet("audit", "verify").out


def test_a_head_is_signed_on_demand(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """The note covers the newest entry; kept elsewhere, verify compares with it."""
    edge_fleet("operators", "add", "judy", "--role", "viewer")
    document = edge_fleet("audit", "head", "--json").document
    assert document["size"] == len(entries(edge_fleet))
    note = tmp_path / "head.txt"
    note.write_text(edge_fleet("audit", "head").out)
    assert note.read_text() == document["note"]
    verified = edge_fleet("audit", "verify", "--head", note, "--json").document
    assert verified["compared_with"] == document["size"]
    key = document["key"]
    assert edge_fleet("audit", "verify", "--key", key, "--json").document["key_known"] is True


def test_a_key_from_elsewhere_decides(edge_fleet: EdgeFleet) -> None:
    """A log that another key signs is refused, and what was seen last is not forgotten."""
    from tests.support.audit_logs import Notary

    edge_fleet("audit", "verify")
    other = str(Notary(edge_fleet("audit", "head", "--json").document["origin"]).key)
    ran = edge_fleet("audit", "verify", "--key", other)
    assert ran.code == 4
    assert "audit key was replaced" in ran.err
    assert edge_fleet("audit", "verify").code == 0
    assert edge_fleet("audit", "verify", "--key", "nonsense").code == 3


def test_what_is_no_note_is_refused(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """A file that is missing is wrong usage; one that is no signed head proves nothing."""
    assert edge_fleet("audit", "verify", "--head", tmp_path / "none").code in (2, 7)
    (tmp_path / "note").write_text("edge-audit/x\n1\n")
    assert edge_fleet("audit", "verify", "--head", tmp_path / "note").code == 4
