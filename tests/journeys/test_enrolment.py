"""A device comes into a fleet with one command and a token, as real processes over real TLS."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from device_agent.cli.program import main as agent_main
from edge_sdk.fleet.cli import main as fleet_main
from edge_sdk.identity import EnrolmentToken
from edge_sdk.trust import open_key_file
from tests.support import processes
from tests.support.commands import Ran, run_main
from tests.support.fleet_on_loopback import FAST_PROBATION, MODEL, write_versions
from tests.support.processes import Command, stopping, wait_for
from tests.support.secrets import secrets_in

_PASSPHRASE = "correct horse battery staple"


class Shell:
    """Commands within this process, and all that they and the processes of the fleet say."""

    def __init__(
        self,
        folder: Path,
        capture: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self._tools = (capture, monkeypatch)
        self.said: list[str] = []
        (folder / "passphrase").touch(mode=0o600)
        (folder / "passphrase").write_text(f"{_PASSPHRASE}\n")
        monkeypatch.setattr(
            "edge_sdk.fleet.key_folder.KeyFolder.__init__.__kwdefaults__", {"work": 2}
        )
        monkeypatch.delenv("EDGE_TEST_PLAINTEXT", raising=False)
        for name, value in (
            ("EDGE_FLEET_HOME", folder / "home"),
            ("EDGE_FLEET_KEYS", folder / "keys"),
            ("EDGE_KEY_PASSPHRASE_FILE", folder / "passphrase"),
        ):
            monkeypatch.setenv(name, str(value))

    def _run(self, main: Callable[..., Any], arguments: tuple[object, ...]) -> Ran:
        ran = run_main(main, [str(one) for one in arguments], *self._tools)
        self.said += [ran.out, ran.err]
        assert ran.code == 0, ran.err
        return ran

    def fleet(self, *arguments: object) -> Ran:
        return self._run(fleet_main, arguments)

    def agent(self, *arguments: object) -> Ran:
        return self._run(agent_main, arguments)

    def hear(self, *commands: Command) -> None:
        """Arguments of processes, of theirs too."""
        for command in commands:
            for one in (command.process.pid, *(one.pid for one in command.descendants())):
                self.said.append("\0".join(psutil.Process(one).cmdline()))


def test_a_token_is_all_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """init, serve, login, token, run: the device enrols, gets a signed version and serves it.
    Started again it needs no token; revoked it says so. In all that life no secret is in a log, an
    output, an argument, or in a file that others can read."""
    shell = Shell(tmp_path, capsys, monkeypatch)
    (path,) = write_versions(tmp_path / "models", 1)
    distributor = processes.distributor(
        tmp_path / "data", tmp_path / "d.log",
        *("--enrolment-address", "127.0.0.1:0", "--build-workers", "1"),
    )  # fmt: skip
    with stopping(distributor):
        first = Path(distributor.ready["operator_token"])
        texts = {"first operator's token": first.read_text().strip()}
        shell.fleet("--operator", "ann", "login", "--token-file", first)
        shell.fleet("keys", "init", "--namespace", "team")
        token = tmp_path / "gate-7.token"
        shell.fleet("devices", "token", "create", "--name", "gate-7", "--output", token)
        texts["device's token"] = token.read_text().strip()
        shell.fleet("publish", path, "--model", MODEL, "--version", "1.0.0", "--variant", "fp32")
        state = tmp_path / "state"
        run = ["run", "--state", str(state)]
        agent = Command(
            "device_agent.cli", [*run, "--token-file", str(token)], tmp_path / "a.log",
            FAST_PROBATION,
        ).start()  # fmt: skip
        with stopping(agent):
            devices = ("devices", "identities", "--json")
            wait_for(lambda: shell.fleet(*devices).document["identities"], "the device")
            wait_for(lambda: shell.fleet("devices", "--json").document["devices"], "a check-in")
            made = shell.fleet("rollout", "create", MODEL, "1.0.0", "--device", "gate-7", "--json")
            ended = shell.fleet("rollout", "watch", made.document["rollout"], "--timeout", "60")
            assert "done" in ended.err
            shell.hear(agent, distributor)
            agent.stop()
        token.unlink()
        again = Command("device_agent.cli", run, tmp_path / "b.log", FAST_PROBATION).start()
        with stopping(again):
            asked = ("--state", state, "--json")
            assert shell.agent("identity", *asked).document["state"] == "enrolled"
            (known,) = shell.fleet(*devices).document["identities"]
            assert (known["name"], known["state"]) == ("gate-7", "active")
            shell.hear(again)
            shell.fleet("audit", "verify")
            shell.fleet("verify", MODEL, "1.0.0")
            shell.fleet("devices", "revoke", "gate-7", "--reason", "stolen")
            _check_refusal(shell, state)
    _check_secrets(tmp_path, shell.said, texts)
    assert os.environ.get("EDGE_TEST_PLAINTEXT") is None


def _check_refusal(shell: Shell, state: Path) -> None:
    """A revoked device says that it is refused, since when, and how it comes back."""

    def refused() -> dict[str, Any] | None:
        why: dict[str, Any] | None
        why = shell.agent("status", "--state", state, "--json").document["no_contact"]
        return why if why is not None and why["refused"] else None

    wait_for(lambda: refused() is not None, "the refusal to be shown")
    why = refused()
    assert why is not None
    assert "stolen" in why["message"]
    shown = shell.agent("status", "--state", state).out
    assert "(refuses this device)" in shown
    assert "refused by it since 20" in shown
    assert "edge-fleet devices token create --name gate-7" in shown


def _check_secrets(folder: Path, said: list[str], texts: dict[str, str]) -> None:
    """``texts``: tokens as they travel, by what they are called."""
    secrets = {"passphrase": _PASSPHRASE.encode()}
    for name, text in texts.items():
        secrets[name] = text.encode()
        secrets[f"secret of the {name}"] = EnrolmentToken.decode(text).secret.encode()
    for key in ("root", "targets", "ns_team"):
        signer = open_key_file(folder / "keys" / f"{key}.key", _PASSPHRASE.encode())
        secrets[f"key {key}"] = signer.private_bytes
        secrets[f"key {key} as hex"] = signer.private_bytes.hex().encode()
    found = secrets_in(folder, secrets)
    assert [one for one in found if one.open_to_others] == []
    assert {(one.file, one.name) for one in found if one.name != "private key"} == {
        ("passphrase", "passphrase"),
        ("data/identity/first-operator.token", "first operator's token"),
    }
    holders = {one.file.rpartition("/")[0] for one in found if one.name == "private key"}
    assert holders == {
        *("data/identity", "data/keys", "data/audit"),
        *("state/identity", "home/identity"),
    }
    keys = [
        (folder / one.file).read_text().splitlines()[1].encode()
        for one in found
        if one.name == "private key"
    ]
    everything = "".join(said).encode()
    assert [one for one in (*secrets.values(), *keys, b"PRIVATE KEY") if one in everything] == []
