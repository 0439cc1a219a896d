"""``edge-fleet publish --evidence`` and ``verify`` against a distributor that requires evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_sdk.base import RefusedError, TrustError
from edge_sdk.evidence import Required, load_policy
from edge_sdk.fleet import Draft, Fleet
from edge_sdk.fleet.cli import main
from tests.support import processes
from tests.support.commands import Ran, run_main
from tests.support.evidence import bundle, key, model_statement, pem, write_policy
from tests.support.processes import stopping
from tests.support.signed_fleet import PASSPHRASE, first_keys

if TYPE_CHECKING:
    from tests.support.fleet_server import FleetServer

pytestmark = pytest.mark.distributor
FILES = {"a.bin": b"graph", "b.bin": b"weights"}
RULE = {"kind": "model-signing", "keys": [pem(key())]}
PUBLISH = ("--model", "team/digits", "--variant", "fp32", "--serve", "none", "--entry", "a.bin")
Run = Callable[..., Ran]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return write_policy(tmp_path / "policy", RULE)


@pytest.fixture
def server(tmp_path: Path, policy: Path) -> Iterator[FleetServer]:
    from tests.support.fleet_server import fleet_server  # needs Python 3.11

    with fleet_server(tmp_path / "data", evidence_policy=str(policy)) as one:
        yield one


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Beside it ``right``, ``wrong`` and ``other``: evidence by the policy's key, by another,
    and of another model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (tmp_path / "right").write_bytes(bundle(model_statement(FILES), key()))
    (tmp_path / "wrong").write_bytes(bundle(model_statement(FILES), key(1)))
    (tmp_path / "other").write_bytes(bundle(model_statement({"a.bin": b""}), key()))
    return folder


def prepare_commands(
    address: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    keys = first_keys(address, folder / "keys", "team")
    (folder / "passphrase").write_bytes(PASSPHRASE)
    (folder / "passphrase").chmod(0o600)
    for name, value in (
        ("EDGE_FLEET_DISTRIBUTOR", address),
        ("EDGE_FLEET_OPERATOR", "ada"),
        ("EDGE_FLEET_KEYS", keys.folder),
        ("EDGE_KEY_PASSPHRASE_FILE", folder / "passphrase"),
    ):
        monkeypatch.setenv(name, str(value))
    return lambda *arguments: run_main(main, [str(one) for one in arguments], capsys, monkeypatch)


@pytest.fixture
def run(
    server: FleetServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    return prepare_commands(server.serving.operator_address, tmp_path, monkeypatch, capsys)


MISTAKES = [
    ((), 6, "has to bring evidence of kind model-signing"),
    (("wrong",), 4, "/wrong: the model-signing is not signed by a key that the policy names"),
    (("right", "other"), 4, "/other: of the artifact's files the signature does not cover b.bin"),
    (("right", "model/a.bin"), 3, "/model/a.bin: that is no evidence known here"),
    (("missing",), 7, "missing"),
]


def test_a_mistake_is_told_before_anything_is_sent(
    run: Run, server: FleetServer, model: Path
) -> None:
    """With the exit code of its family; the distributor was not asked to keep anything."""
    for evidence, code, why in MISTAKES:
        named = [one for name in evidence for one in ("--evidence", model.parent / name)]
        ran = run("publish", model, "--version", "1.0.0", *PUBLISH, *named, "--json")
        assert ran.code == code, evidence
        assert why in ran.document["error"]["message"]
    objects = server.config.data / "objects"
    assert not [one for one in objects.rglob("*") if one.is_file()]


def test_evidence_that_is_missing_is_told_before_the_model_is_run(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proving files and computing a golden sample can take minutes."""

    def prepared(*_: object, **__: object) -> None:
        raise AssertionError("the model was prepared")

    monkeypatch.setattr("edge_sdk.fleet.cli.prepare", prepared)
    publish = ("publish", model, "--version", "1.0.0", *PUBLISH)
    ran = run(*publish)
    assert ran.code == 6
    assert "team/digits 1.0.0 fp32 comes without" in ran.err
    by = {"keys": RULE["keys"]}
    both = (Required(kind="model-signing", **by), Required(kind="slsa-provenance", **by))
    monkeypatch.setattr(Fleet, "required_evidence", lambda *_: both)
    assert "of kind model-signing and slsa-provenance, and" in run(*publish).err
    ran = run(*publish, "--evidence", model.parent / "right")
    assert (ran.code, "of kind slsa-provenance, and" in ran.err) == (6, True), ran.err


def test_the_distributor_believes_no_client(
    server: FleetServer, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that checks nothing is refused there, with the same words."""
    for check in ("_check_evidence", "check_publish"):
        monkeypatch.setattr(Fleet, check, lambda *_: None)
    with Fleet(server.serving.operator_address, operator="mallory") as fleet:
        for evidence, error in (((), RefusedError), ((model.parent / "wrong",), TrustError)):
            draft = Draft(
                model="team/digits", version="1.0.0", variant="fp32",
                serve="none", entry="a.bin", evidence=evidence,
            )  # fmt: skip
            with pytest.raises(error):
                fleet.publish(model, draft)


def test_from_publish_to_verify(run: Run, model: Path, policy: Path) -> None:
    """It is published, shown by the command and proved afterwards against a policy that need
    not be the distributor's; without one the evidence is shown as not proved."""
    publish = ("publish", model, "--version", "1.0.0", *PUBLISH)
    ran = run(*publish, "--evidence", model.parent / "right", "--json")
    assert ran.code == 0, ran.err
    (told,) = ran.document["evidence"]
    assert (told["kind"], len(told["digest"])) == ("model-signing", 64)
    ran = run(*publish)
    assert ran.code == 0, ran.err  # what is there already needs none
    verify = ("verify", "team/digits", "1.0.0")
    ran = run(*verify, "--evidence-policy", policy, "--json")
    (held,) = ran.document["proved"][0]["evidence"]
    assert held == {**told, "builder": ""}
    ran = run(*verify)
    assert ran.code == 0
    assert f"{told['digest']}, not proved: no --evidence-policy" in ran.out
    ran = run(
        *verify,
        "--evidence-policy",
        write_policy(policy.parent / "else", {**RULE, "keys": [pem(key(1))]}),
    )
    assert ran.code == 4
    both = write_policy(
        policy.parent / "both", RULE, {**RULE, "kind": "slsa-provenance", "builders": ["x"]}
    )
    assert run(*verify, "--evidence-policy", both).code == 6
    audit = run("audit", "list", "--last", "2", "--json")
    assert "model-signing" in json.dumps(audit.document)


def test_evidence_that_was_exchanged_is_noticed(
    run: Run, server: FleetServer, model: Path, policy: Path
) -> None:
    """Whoever owns the distributor can drop evidence, or put another in its place, but not make
    a verifier with a policy of their own believe it."""
    run("publish", model, "--version", "1.0.0", *PUBLISH, "--evidence", model.parent / "right")
    verify = ("verify", "team/digits", "1.0.0", "--evidence-policy", policy)
    for name, code in (("right", 0), ("wrong", 4), ("other", 4), (None, 6)):
        _exchange(server, None if name is None else (model.parent / name).read_bytes())
        assert run(*verify).code == code, name


def _exchange(server: FleetServer, document: bytes | None) -> None:
    from sqlalchemy import delete, update

    from distributor.storage import Database
    from distributor.storage.tables import evidence
    from tests.support.catalog import url_of

    database = Database(url_of(server.config.data))
    try:
        with database.transaction(write=True) as connection:
            change = (
                delete(evidence) if document is None else update(evidence).values(document=document)
            )
            connection.execute(change)
    finally:
        database.close()


def test_through_real_processes(
    model: Path,
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A distributor started with ``--evidence-policy`` refuses without and takes with evidence,
    and says it again when it is verified."""
    distributor = processes.distributor(
        tmp_path / "data", tmp_path / "d.log", "--evidence-policy", str(policy)
    )
    with stopping(distributor):
        address = str(distributor.ready["operator_address"])
        run = prepare_commands(address, tmp_path, monkeypatch, capsys)
        publish = ("publish", model, "--version", "1.0.0", *PUBLISH)
        assert run(*publish).code == 6
        assert run(*publish, "--evidence", tmp_path / "right").code == 0
        ran = run("verify", "team/digits", "1.0.0", "--evidence-policy", policy)
        assert ran.code == 0, ran.err
        assert "signed by key " in ran.out


def test_the_api_says_what_is_required(server: FleetServer, policy: Path) -> None:
    """For pipelines that want to know before they build: exactly what the policy says."""
    with Fleet(server.serving.operator_address, operator="ada") as fleet:
        assert fleet.required_evidence("team") == load_policy(policy).of("team")
