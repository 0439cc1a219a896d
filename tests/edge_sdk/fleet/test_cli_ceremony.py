"""The commands of a ceremony, as its runbook (docs/keys.md) has them."""

from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_sdk.fleet.cli import main
from tests.support.commands import Ran, run_main

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the distributor needs 3.11")
EdgeFleet = Callable[..., Ran]


@pytest.fixture
def edge_fleet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[EdgeFleet]:
    """Runs ``edge-fleet`` in ``tmp_path`` against a real distributor."""
    from tests.support.fleet_server import fleet_server

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edge_sdk.fleet.key_folder.KeyFolder.__init__.__kwdefaults__", {"work": 2})
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE", "of tests")
    with fleet_server(tmp_path / "data") as server:
        monkeypatch.setenv("EDGE_FLEET_DISTRIBUTOR", server.serving.operator_address)
        yield lambda *said: run_main(main, [str(one) for one in said], capsys, monkeypatch)


def done(ran: Ran) -> Ran:
    assert ran.code == 0, ran.err
    return ran


def make(edge_fleet: EdgeFleet, person: str, role: str) -> str:
    """A key of a person, and its public half beside."""
    done(edge_fleet("keys", "create", role, "--keys", person))
    public = f"{person}-{role}.json"
    done(edge_fleet("keys", "export", role, "--keys", person, "-o", public))
    return public


def begin(edge_fleet: EdgeFleet) -> None:
    roots = [make(edge_fleet, one, "root") for one in ("ann", "bob", "cem")]
    keys = [argument for one in roots for argument in ("--root-key", one)]
    targets, team = make(edge_fleet, "ann", "targets"), make(edge_fleet, "eve", "team")
    said = (*keys, "--threshold", "2", "--targets-key", targets, "--namespace", f"team={team}")
    done(edge_fleet("keys", "draft", "first", *said, "-o", "begin"))
    for person in ("ann", "bob", "eve"):
        done(edge_fleet("keys", "sign", "begin", "--keys", person, "--yes"))
    done(edge_fleet("keys", "submit", "begin", "--keys", "eve"))


def test_from_first_keys_to_a_signed_version(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """Three people, two signatures, one publisher: what they sign is believed in the end."""
    begin(edge_fleet)
    Path("model.bin").write_bytes(b"weights")
    said = ("--model", "team/bits", "--version", "1.0.0", "--variant", "any", "--keys", "eve")
    ran = done(edge_fleet("publish", "model.bin", *said, "--json"))
    assert ran.document["created"] is True
    assert "was there already and is signed" in done(edge_fleet("publish", "model.bin", *said)).out
    assert stat.S_IMODE((tmp_path / "eve" / "ns_team.key").stat().st_mode) == 0o600


def test_a_ceremony_says_what_it_lacks_and_is_not_put_before(edge_fleet: EdgeFleet) -> None:
    """show counts signatures; submit refuses with exit 6; a stranger has nothing to sign."""
    begin(edge_fleet)
    new = make(edge_fleet, "dan", "root")
    old = ("--root-key", "ann-root.json", "--root-key", "bob-root.json")
    said = (*old, "--root-key", new, "--keys", "eve", "-o", "next")
    done(edge_fleet("keys", "draft", "root", *said))
    done(edge_fleet("keys", "sign", "next", "--keys", "dan", "--yes"))
    state = done(edge_fleet("keys", "show", "next", "--json")).document
    assert state["missing"] == 3
    assert state["documents"]["2.root.json"]["roles"]["root"]["threshold"] == 2
    refused = edge_fleet("keys", "submit", "next", "--json")
    assert refused.code == 6
    make(edge_fleet, "stranger", "root")
    assert edge_fleet("keys", "sign", "next", "--keys", "stranger", "--yes").code == 6
    for person in ("ann", "bob"):
        done(edge_fleet("keys", "sign", "next", "--keys", person, "--yes"))
    put = done(edge_fleet("keys", "submit", "next", "--json")).document
    assert put == {"put": ["2.root.json"], "unsigned_roles": []}


def test_keys_are_listed_and_exported_without_their_passphrase(
    edge_fleet: EdgeFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only signing and making a key asks for it; nothing secret is printed."""
    make(edge_fleet, "ann", "root")
    second = done(edge_fleet("keys", "create", "root", "--keys", "ann", "--json")).document
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE")
    listed = done(edge_fleet("keys", "list", "--keys", "ann", "--json"))
    assert [one["uri"] for one in listed.document["keys"]] == ["file:root.key", "file:root-2.key"]
    done(edge_fleet("keys", "export", "root", "--keys", "ann", "-o", "newest.json"))
    assert json.loads(Path("newest.json").read_text())["keyid"] == second["key_id"]
    assert edge_fleet("keys", "create", "root", "--keys", "ann").code == 2


def test_a_namespace_by_its_role(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """``ns_team``, as keys are listed, is the key of namespace team, and no namespace itself."""
    for spelling in ("team", "ns_team"):
        made = done(edge_fleet("keys", "create", spelling, "--keys", "eve", "--json")).document
        assert made["role"] == "ns_team"
    done(edge_fleet("keys", "export", "ns_team", "--keys", "eve", "-o", "team.json"))
    draft = ("keys", "draft", "targets", "--keys", "eve", "-o", "next")
    for said in (
        (*draft, "--namespace", "ns_team=team.json"),
        ("keys", "draft", "namespace", "ns_team", "--keys", "eve", "-o", "next"),
        ("keys", "init", "--keys", "new", "--namespace", "ns_team"),
    ):
        ran = edge_fleet(*said)
        assert (ran.code, "name the namespace itself: team" in ran.err) == (2, True), ran.err
    assert not (tmp_path / "new").exists()


def test_a_key_elsewhere_is_listed_once_it_signed_a_trial(
    edge_fleet: EdgeFleet, tmp_path: Path
) -> None:
    """By URI, with its public half; the public half of another key is refused (exit 4)."""
    public, other = make(edge_fleet, "ann", "root"), make(edge_fleet, "bob", "root")
    where = ("--uri", f"edge-key:{tmp_path / 'ann' / 'root.key'}", "--keys", "cem")
    assert edge_fleet("keys", "add", "root", *where, "--public", other).code == 4
    done(edge_fleet("keys", "add", "root", *where, "--public", public))
    listed = done(edge_fleet("keys", "list", "--keys", "cem", "--json")).document["keys"]
    assert [one["key_id"] for one in listed] == [json.loads(Path(public).read_text())["keyid"]]


def test_no_public_key_and_no_namespace_are_told(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """Wrong input ends with its own exit code, and leaves no folder behind."""
    Path("no.json").write_text("{}")
    said = ("--threshold", "1", "--targets-key", "no.json", "--namespace", "team=no.json")
    assert edge_fleet("keys", "draft", "first", "--root-key", "no.json", *said, "-o", "x").code == 3
    assert edge_fleet("keys", "show", "nowhere").code == 7
    assert not (tmp_path / "x").exists()


def test_who_does_not_want_to_sign(
    edge_fleet: EdgeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No is an answer: nothing is signed, nobody was interrupted (exit 6)."""
    public = make(edge_fleet, "eve", "team")
    keys = ("--root-key", public, "--targets-key", public, "--namespace", f"team={public}")
    done(edge_fleet("keys", "draft", "first", *keys, "-o", "begin"))
    before = {one: one.read_bytes() for one in (tmp_path / "begin").glob("*.json")}
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    ran = edge_fleet("keys", "sign", "begin", "--keys", "eve")
    assert (ran.code, "nothing was signed" in ran.err) == (6, True), ran.err
    assert {one: one.read_bytes() for one in (tmp_path / "begin").glob("*.json")} == before


def test_who_is_not_asked_sees_what_is_signed(edge_fleet: EdgeFleet) -> None:
    """``--yes`` leaves out the question, not what it was about; with ``--json`` it is one
    document."""
    public = make(edge_fleet, "eve", "team")
    keys = ("--root-key", public, "--targets-key", public, "--namespace", f"team={public}")
    done(edge_fleet("keys", "draft", "first", *keys, "-o", "begin"))
    signed = done(edge_fleet("keys", "sign", "begin", "--keys", "eve", "--yes"))
    assert "1.root.json, until" in signed.out + signed.err
    assert "ns_team" in signed.out + signed.err
    done(edge_fleet("keys", "draft", "first", *keys, "-o", "again"))
    signed = done(edge_fleet("keys", "sign", "again", "--keys", "eve", "--yes", "--json"))
    assert set(signed.document) == {"wanted", "missing"}


def test_no_threshold_and_no_name_of_a_file(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """None of the keys is no threshold; a key's file lies in its folder, wherever it is said to."""
    public = make(edge_fleet, "eve", "team")
    said = ("--root-key", public, "--targets-key", public, "--namespace")
    draft = ("keys", "draft", "first", "-o", "begin")
    assert edge_fleet(*draft, *said, f"team={public}/0").code == 2
    assert edge_fleet(*draft, *said, f"team={public}/99999999999999999999").code == 6
    assert edge_fleet(*draft, *said, f"team={public}", "--threshold", "0").code == 2
    assert not (tmp_path / "begin").exists()
    for name in ("../evil", "a/b", ".hidden"):
        ran = edge_fleet("keys", "create", "root", "--keys", "eve", "--name", name)
        assert ran.code == 3, ran.err
    assert {one.name for one in (tmp_path / "eve").iterdir()} == {"keys.json", "ns_team.key"}
    assert not (tmp_path / "evil.key").exists()


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """What somebody between drafter and signer makes of a folder's root or targets."""
    file = next(
        one for one in folder.iterdir() if one.name.endswith((".root.json", ".targets.json"))
    )
    said = json.loads(file.read_bytes())
    change(said["signed"])
    file.write_text(json.dumps(said))


def test_a_strange_key_under_a_known_id_is_seen(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """A document chooses ids: signers are shown the digest of the key itself."""
    begin(edge_fleet)
    roots = [f"{one}-root.json" for one in ("ann", "bob", "cem")]
    said = [argument for one in roots for argument in ("--root-key", one)]
    done(edge_fleet("keys", "draft", "root", *said, "--keys", "eve", "-o", "next"))
    strange = json.loads(Path(make(edge_fleet, "mallory", "root")).read_text())
    cem = json.loads(Path("cem-root.json").read_text())
    honest = done(edge_fleet("keys", "show", "next"))
    assert cem["keyid"][:16] in honest.out + honest.err

    def exchange(signed: dict[str, Any]) -> None:
        signed["keys"][cem["keyid"]]["keyval"] = strange["keyval"]

    rewritten(tmp_path / "next", exchange)
    shown = done(edge_fleet("keys", "show", "next"))
    assert strange["keyid"][:16] in shown.out + shown.err
    document = json.loads(done(edge_fleet("keys", "show", "next", "--json")).out)["documents"]
    keys = document["2.root.json"]["roles"]["root"]["keys"]
    assert f"{strange['keyid']} (id {cem['keyid']})" in keys


@pytest.mark.parametrize("what", ["paths", "artifact", "terminating"])
def test_targets_that_do_more_than_is_shown_are_not_signed(
    edge_fleet: EdgeFleet, tmp_path: Path, what: str
) -> None:
    """A namespace with another one's paths, or an artifact in the targets of the top level."""
    begin(edge_fleet)
    fay = make(edge_fleet, "fay", "vision")
    said = ("--namespace", f"vision={fay}", "--keys", "eve", "-o", "next")
    done(edge_fleet("keys", "draft", "targets", *said))

    def more(signed: dict[str, Any]) -> None:
        vision = signed["delegations"]["roles"][-1]
        if what == "paths":
            vision["paths"] = ["team/*/*/*"]
        elif what == "terminating":
            vision["terminating"] = False
        else:
            digest = {"length": 1, "hashes": {"sha256": "0" * 64}}
            signed["targets"]["team/digits/9.0.0/fp32.json"] = digest

    rewritten(tmp_path / "next", more)
    before = (tmp_path / "next" / "2.targets.json").read_bytes()
    ran = edge_fleet("keys", "sign", "next", "--keys", "ann", "--yes")
    assert ran.code == 6
    assert "do not sign it" in ran.err
    assert (tmp_path / "next" / "2.targets.json").read_bytes() == before


def test_signers_of_a_namespace_see_its_artifacts(edge_fleet: EdgeFleet, tmp_path: Path) -> None:
    """Path and digest of each: a count would hide one that was exchanged."""
    begin(edge_fleet)
    (tmp_path / "m.bin").write_bytes(b"model")
    said = ("--model", "team/digits", "--version", "1.0.0", "--variant", "fp32", "--keys", "eve")
    done(edge_fleet("publish", "m.bin", *said))
    done(edge_fleet("keys", "draft", "namespace", "team", "--keys", "eve", "-o", "next"))
    shown = done(edge_fleet("keys", "show", "next"))
    document = json.loads(done(edge_fleet("keys", "show", "next", "--json")).out)["documents"]
    (found,) = document["3.ns_team.json"]["artifacts"].items()
    assert found[0] == "team/digits/1.0.0/fp32.json"
    assert f"{found[0]} {found[1]['sha256'][:20]}" in shown.err
