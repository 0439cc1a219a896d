"""``edge-distributor keys``: create, list, rotate, remove."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.signer import CryptoSigner

from distributor.cli import cli, main
from distributor.config import ONLINE_ROLES
from distributor.signing import put
from tests.support.catalog import database_setting, open_catalog
from tests.support.commands import Ran, run_main
from tests.support.signing import Signing, file_of

Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def one(*arguments: str) -> Ran:
        where = ["--data", str(tmp_path / "data")]
        monkeypatch.setenv("EDGE_DISTRIBUTOR_DATABASE", database_setting(tmp_path / "data"))
        return run_main(main, [*arguments, *where], capsys, monkeypatch)

    assert one("init").code == 0
    return one


def shown(run: Run) -> list[dict[str, object]]:
    return run("keys", "list", "--json").document["keys"]


def test_init_makes_the_keys(run: Run, tmp_path: Path) -> None:
    """After init there is a key for each role, none of them in use yet."""
    assert [one["role"] for one in shown(run)] == list(ONLINE_ROLES)
    assert {one["in_use"] for one in shown(run)} == {False}
    assert run("keys", "create", "--json").document == {"created": False}
    (tmp_path / "data" / "keys" / "online.json").unlink()
    ran = run("keys", "list")
    assert ran.code == 7
    assert "edge-distributor keys create" in ran.err
    assert run("keys", "create", "--json").document == {"created": True}
    assert "timestamp" in run("keys", "list").out


def test_rotate_and_remove(run: Run, tmp_path: Path) -> None:
    """A key in use cannot be removed; once metadata name its successor, it can."""
    with open_catalog(tmp_path / "data") as catalog:
        signed = Signing(catalog, tmp_path / "data")
        signed.begin("team")
        old = next(one for one in shown(run) if one["role"] == "assignments")
        assert old["in_use"] is True
        ran = run("keys", "remove", str(old["key_id"]))
        assert ran.code == 6
        assert "rotate it first" in ran.err
        made = run("keys", "rotate", "assignments", "--json").document
        assert made["in_use"] is False
        from edge_sdk import trust

        public = signed.online("assignments").public_key
        targets = trust.delegate_assignments(signed.document("targets"), [public], now=signed.now)
        catalog.write(
            put,
            [file_of("targets", targets, signed.targets_key)],
            signed.keys,
            now=signed.now,
            by="alice",
        )
    assert {one["key_id"]: one["in_use"] for one in shown(run) if one["role"] == "assignments"} == {
        old["key_id"]: False,
        made["key_id"]: True,
    }
    assert run("keys", "remove", str(old["key_id"])).code == 0
    assert old["key_id"] not in {one["key_id"] for one in shown(run)}
    assert run("keys", "remove", str(old["key_id"])).code == 7


def test_a_key_elsewhere(run: Run, tmp_path: Path) -> None:
    """A key of another scheme is given by its URI and its public half in PEM; both are needed."""
    signer = CryptoSigner.generate_ed25519()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(signer.private_bytes)
    crypto = signer._private_key.public_key()
    public.write_bytes(crypto.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    uri = f"file2:{private}"
    given = ["--uri", uri, "--public", str(public)]
    ran = run("keys", "rotate", "timestamp", *given, "--json")
    assert ran.document["key_id"] == signer.public_key.keyid
    assert shown(run)[-1]["uri"] == uri
    assert run("keys", "rotate", "timestamp", "--uri", uri).code == 2
    assert run("keys", "rotate", "timestamp", "--uri", uri, "--public", str(private)).code == 3
    assert run("keys", "rotate", "timestamp", "--uri", uri, "--public", "none.pem").code == 7
    assert run("keys", "rotate", "root").code == 2


def test_a_catalog_of_another_release(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a key is in use is not guessed where the catalog cannot be read; such a key stays."""
    from distributor import storage

    monkeypatch.setattr(storage, "schema_version", lambda _: ("v0001", "v0009"))
    assert {one["in_use"] for one in shown(run)} == {None}
    assert "not known" in run("keys", "list").out
    assert run("keys", "remove", str(shown(run)[0]["key_id"])).code == 6


def test_no_data_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a distributor there are no keys; the message says how to make one."""
    ran = run_main(main, ["keys", "list", "--data", str(tmp_path / "none")], capsys, monkeypatch)
    assert ran.code == 7
    assert "edge-distributor init" in ran.err


def test_every_command_has_help_with_an_example() -> None:
    """--help works everywhere and shows how to call it."""
    for name in ("list", "create", "rotate", "remove"):
        said = CliRunner().invoke(cli, ["keys", name, "--help"])
        assert said.exit_code == 0
        assert "Example" in said.output
