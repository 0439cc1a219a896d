"""A device comes into a fleet with one command and a token, as real processes over real TLS."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from edge_sdk.fleet import Cohort, Draft, Fleet, OwnIdentity, begin
from edge_sdk.identity import EnrolmentToken
from tests.support import processes
from tests.support.fleet_on_loopback import FAST_PROBATION, MODEL, write_versions
from tests.support.processes import Command, environment, program, stopping, wait_for
from tests.support.signed_fleet import key_folder


def _command(folder: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    around = environment(EDGE_FLEET_HOME=str(folder / "home"))
    around.pop("EDGE_TEST_PLAINTEXT", None)
    return subprocess.run(
        [*program(module), *arguments],
        capture_output=True, text=True, env=around, check=False, timeout=60,
    )  # fmt: skip


def _readable_by_others(folder: Path) -> list[Path]:
    return [one for one in folder.rglob("*") if one.is_file() and one.stat().st_mode & 0o077]


def test_a_token_is_all_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """init, serve, login, token, run: the device enrols, gets a signed version and serves it.
    Started again it needs no token. No secret is in a log, an argument, or a file that others read."""
    monkeypatch.delenv("EDGE_TEST_PLAINTEXT", raising=False)
    (path,) = write_versions(tmp_path / "models", 1)
    distributor = processes.distributor(
        tmp_path / "data", tmp_path / "d.log",
        *("--enrolment-address", "127.0.0.1:0", "--build-workers", "1"),
    )  # fmt: skip
    with stopping(distributor):
        monkeypatch.setenv("EDGE_FLEET_HOME", str(tmp_path / "home"))
        first = EnrolmentToken.decode(Path(distributor.ready["operator_token"]).read_text())
        ann = OwnIdentity(tmp_path / "home" / "identity").log_in(first, "ann")
        token_file = tmp_path / "gate-7.token"
        address, keys = str(distributor.ready["operator_address"]), key_folder(tmp_path / "keys")
        with Fleet(address, identity=ann, keys=keys) as fleet:
            begin(fleet.metadata, keys, ["team"])
            text, _ = fleet.identities.create_token(name="gate-7")
            token_file.write_text(text)
            token_file.chmod(0o600)
            fleet.publish(path, Draft(model=MODEL, version="1.0.0", variant="fp32"))
            arguments = ["run", "--state", str(tmp_path / "state"), "--token-file"]
            agent = Command(
                "device_agent.cli", [*arguments, str(token_file)], tmp_path / "a.log",
                FAST_PROBATION,
            ).start()  # fmt: skip
            with stopping(agent):
                wait_for(lambda: [one.device for one in fleet.devices()], "the first check-in")
                rollout = fleet.rollout_create(MODEL, "1.0.0", Cohort(devices=("gate-7",)))
                end = list(fleet.rollout_watch(rollout.rollout, timeout_s=60))[-1]
                assert end.state == "done"
                lines = [" ".join(one.cmdline()) for one in (agent, *distributor.descendants())
                         if isinstance(one, psutil.Process)]  # fmt: skip
                lines += [" ".join(one.cmdline()) for one in agent.descendants()]
                agent.stop()
            token_file.unlink()
            again = Command(
                "device_agent.cli", ["run", "--state", str(tmp_path / "state")],
                tmp_path / "a.log", FAST_PROBATION,
            ).start()  # fmt: skip
            with stopping(again):
                assert again.process.poll() is None
                shown = _command(
                    tmp_path, "device_agent.cli", "identity", "--state", str(tmp_path / "state"),
                    "--json",
                )  # fmt: skip
                assert json.loads(shown.stdout)["state"] == "enrolled"
                listed = _command(tmp_path, "edge_sdk.fleet.cli", "devices", "identities", "--json")
                (known,) = json.loads(listed.stdout)["identities"]
                assert (known["name"], known["state"]) == ("gate-7", "active")
    key = (tmp_path / "state" / "identity" / "key.pem").read_text().splitlines()[1]
    said = [(tmp_path / name).read_text() for name in ("d.log", "a.log")]
    for text_of in (*said, *lines, shown.stdout, listed.stdout):
        for secret in (first.secret, EnrolmentToken.decode(text).secret, text, key):
            assert secret not in text_of
    for folder in ("data/identity", "state/identity", "home/identity"):
        assert _readable_by_others(tmp_path / folder) == []
    assert os.environ.get("EDGE_TEST_PLAINTEXT") is None
