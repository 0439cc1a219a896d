"""``edge-fleet keys init`` and ``publish --keys`` against a real distributor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_sdk.fleet import Fleet, cli_keys, key_folder
from edge_sdk.fleet.cli import main
from edge_sdk.fleet.cli_keys import ask_new_passphrase, ask_passphrase
from tests.support.commands import Ran, run_main

pytestmark = pytest.mark.distributor
Run = Callable[..., Ran]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    from tests.support.fleet_server import fleet_server  # needs Python 3.11

    with fleet_server(tmp_path / "data") as server:
        yield server.serving.operator_address


@pytest.fixture
def run(address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE", "of tests")
    monkeypatch.setattr(cli_keys, "KeyFolder", _quick)

    def one(*arguments: str) -> Ran:
        return run_main(main, ["--distributor", address, *arguments], capsys, monkeypatch)

    return one


def _quick(folder: Path, passphrase: key_folder.Passphrase) -> key_folder.KeyFolder:
    return key_folder.KeyFolder(folder, passphrase, work=2)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    return file


def publish(run: Run, model: Path, *more: str, version: str = "1.0.0") -> Ran:
    named = ["--model", "team/digits", "--version", version, "--variant", "fp32"]
    return run("publish", str(model), *named, *more)


def test_from_nothing_to_a_signed_artifact(
    run: Run, address: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """init makes keys, metadata and the root for devices; publish signs; again finishes only."""
    folder = tmp_path / "keys"
    ran = run("keys", "init", "--keys", str(folder), "--namespace", "team", "--json")
    assert ran.code == 0, ran.err
    root = (folder / "root.json").read_bytes()
    assert ran.document == {
        "keys": str(folder),
        "root": str(folder / "root.json"),
        "root_sha256": hashlib.sha256(root).hexdigest(),
        "namespaces": ["team"],
    }
    assert {one.name for one in folder.iterdir()} == {
        *("root.key", "targets.key", "ns_team.key"),
        *("keys.json", "root.json"),
    }
    monkeypatch.setenv("EDGE_FLEET_KEYS", str(folder))
    said = publish(run, model, "--floor", "1.0.0", "--json").document
    assert (said["created"], said["signed"]) == (True, True)
    with Fleet(address, operator="tester") as fleet:
        held = fleet.metadata.get("2.ns_team.json")
        assert b'"floor":"1.0.0"' in held
        assert publish(run, model, "--floor", "1.0.0", "--json").document["created"] is False
        with pytest.raises(Exception, match="no metadata file"):
            fleet.metadata.get("3.ns_team.json")


def test_init_is_safe_to_repeat(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What broke off anywhere is finished by running it again; keys are never made twice."""
    from edge_sdk.fleet import first_keys

    folder = tmp_path / "keys"
    arguments = ["keys", "init", "--keys", str(folder), "--namespace", "team"]

    def broken(*_: object) -> bytes:
        raise first_keys.UsageError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(first_keys, "_put_first", broken)
        assert run(*arguments).code == 2
    made = (folder / "root.key").read_bytes()
    assert run(*arguments).code == 0
    root = (folder / "root.json").read_bytes()
    (folder / "root.json").unlink()
    assert run(*arguments).code == 0
    assert (folder / "root.json").read_bytes() == root
    assert (folder / "root.key").read_bytes() == made


def test_init_over_metadata_of_others(run: Run, tmp_path: Path) -> None:
    """A distributor that others began with is left alone, and no keys are made for it."""
    assert run("keys", "init", "--keys", str(tmp_path / "a"), "--namespace", "team").code == 0
    ran = run("keys", "init", "--keys", str(tmp_path / "b"), "--namespace", "team")
    assert ran.code == 7
    assert "already, by other keys" in ran.err
    assert not (tmp_path / "b" / "root.key").exists()


def test_init_for_a_namespace_that_came_later(run: Run, tmp_path: Path) -> None:
    """What a second init cannot do is said, with what does it; no key is made for it."""
    keys = ("--keys", str(tmp_path / "keys"))
    assert run("keys", "init", *keys, "--namespace", "team").code == 0
    ran = run("keys", "init", *keys, "--namespace", "team", "--namespace", "lab")
    assert ran.code == 7
    assert "without namespace lab" in ran.err
    assert "keys draft targets --namespace lab=" in ran.err
    assert not (tmp_path / "keys" / "ns_lab.key").exists()


def test_publish_without_keys(run: Run, model: Path, tmp_path: Path) -> None:
    """Without keys it says that nothing was signed, where the distributor has signed metadata."""
    ran = publish(run, model, version="0.9.0")
    assert "not signed" not in ran.err
    assert run("keys", "init", "--keys", str(tmp_path / "keys"), "--namespace", "team").code == 0
    ran = publish(run, model, "--json")
    assert ran.document["signed"] is False
    assert "uploaded but not signed" in ran.err
    ran = publish(run, model, "--floor", "1.0.0", version="1.1.0")
    assert ran.code == 2
    assert "needs keys" in ran.err


def test_what_has_to_be_said(run: Run, model: Path, tmp_path: Path) -> None:
    """No folder, a folder without keys, keys without a root, a floor above: each says what to do."""
    assert run("keys", "init", "--namespace", "team").code == 2
    ran = publish(run, model, "--keys", str(tmp_path / "none"))
    assert ran.code == 6
    assert "edge-fleet keys init" in ran.err
    ran = publish(run, model, "--keys", str(tmp_path / "none"), "--floor", "2.0.0")
    assert ran.code == 2
    assert "above 1.0.0" in ran.err


def test_secrets_that_others_can_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A passphrase and a login's token in files open to others are used, and said."""
    secret = tmp_path / "secret"
    secret.write_text("of tests")
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE")
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE_FILE", str(secret))
    words = f"others here can read the secret in {secret}: chmod 600 {secret}"
    for mode in (0o644, 0o600):
        secret.chmod(mode)
        folder = str(tmp_path / f"{mode}")
        assert (words in run("keys", "create", "team", "--keys", folder).err) == (mode == 0o644)
        assert (words in run("login", "--token-file", str(secret)).err) == (mode == 0o644)


def test_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the environment, else typed (a new one twice), never silently empty."""
    monkeypatch.setenv("EDGE_KEY_PASSPHRASE", "kept")
    assert ask_passphrase("passphrase") == b"kept"
    assert ask_new_passphrase("passphrase") == b"kept"
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE")
    monkeypatch.delenv("EDGE_KEY_PASSPHRASE_FILE", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(cli_keys.UsageError, match="EDGE_KEY_PASSPHRASE_FILE"):
        ask_new_passphrase("passphrase")
    prompts: list[bool] = []

    def prompt(_text: str, **how: bool) -> str:
        prompts.append(how.get("confirmation_prompt", False))
        assert how["hide_input"]
        return "typed"

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(cli_keys.click, "prompt", prompt)
    assert ask_passphrase("passphrase") == b"typed"
    assert ask_new_passphrase("passphrase") == b"typed"
    assert prompts == [False, True]
