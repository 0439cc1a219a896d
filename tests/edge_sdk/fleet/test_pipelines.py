"""docs/pipelines.md: its scripts are run as they stand there, against a real distributor."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
import pytest

from edge_sdk.fleet import Fleet
from edge_sdk.fleet.cli import cli
from tests.support.onnx_models import linear, save
from tests.support.signed_fleet import PASSPHRASE, first_keys

if TYPE_CHECKING:
    from tests.support.fleet_server import FleetServer, ScriptedDevice

DOCUMENT = Path(__file__).parents[3] / "docs" / "pipelines.md"
DEADLINE_S = 120


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)


def release_script() -> str:
    (script,) = (one for one in blocks("bash") if one.startswith("#!"))
    return script


def commands() -> list[str]:
    """Every ``edge-fleet`` command of the shell blocks, one line each, without what is the
    shell's own: redirections, pipes, substitutions."""
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    found = re.findall(r"edge-fleet [^|\n]*", text)
    plain = [re.sub(r"\$\{\w+:\+([^}]*)\}", r"\1", one) for one in found]
    plain = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", one) for one in plain]
    return [one.replace("&& return", "").strip() for one in plain]


@pytest.mark.parametrize("line", commands())
def test_command_exists(line: str) -> None:
    """Each command in the document exists with each of its options and arguments."""
    words = [word.replace('"$@"', "") for word in shlex.split(line)[1:] if word != "$@"]
    values = {"$version": "2.0.0", "$parent": "1.0.0", "$model": "team/digits"}
    words = [values.get(word, word) for word in words]
    words = [word.replace("1800", "1") if word.isdigit() else word for word in words]
    command: click.Command = cli
    context = click.Context(cli, info_name="edge-fleet")
    while isinstance(command, click.Group):
        name, command, words = command.resolve_command(context, words)
        assert command is not None
        if not isinstance(command, click.Group):
            command.make_context(name, words)


def test_document_shows_every_step() -> None:
    """The document has a script, a job and the Python form, and the steps in their order."""
    script = release_script()
    steps = ["publish", "rollout plan", "rollout create", "rollout watch", "rollout undo"]
    assert all(f"edge-fleet {step}" in script for step in steps)
    assert len(blocks("yaml")) == len(blocks("python")) == 1
    assert "release.sh" in blocks("yaml")[0]


@contextmanager
def obeying(device: ScriptedDevice, state: str) -> Iterator[None]:
    """A device that brings whatever it is assigned to ``state`` for as long as the block lasts."""
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(0.05):
            wanted = device.check_in()
            if wanted is None or not wanted.models:
                continue  # nothing new, or it has only to unload the model
            if state == "committed":
                device.commit(wire_bytes="10")
            else:
                device.report(state, reason="GoldenError", message="output 'y' differs")

    device.check_in()
    thread = threading.Thread(target=live, name="obeying device")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=30)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FleetServer]:
    from tests.support.fleet_server import fleet_server  # needs Python 3.11

    with fleet_server(tmp_path / "data") as running:
        first_keys(running.serving.operator_address, tmp_path / "keys", "team")
        yield running


@pytest.fixture
def canary(server: FleetServer) -> ScriptedDevice:
    from edge_sdk.protos import delivery_v1_pb2 as delivery

    engine = delivery.Engine(
        name="onnxruntime", version="1.23.2", ir_version_max=11, opset_max={"": 23}
    )
    return server.device("gate-7", engines=(engine,), labels={"ring": "canary"})


def run_block(
    server: FleetServer, folder: Path, program: list[str], text: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs a block of the document as a script, with a model and inputs beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "script").write_text(text)
    save(linear(2.0), folder / "digits.onnx")
    np.savez(folder / "inputs.npz", x=np.ones((1, 4), np.float32))
    environment = {
        **os.environ,
        "EDGE_FLEET_DISTRIBUTOR": server.serving.operator_address,
        "EDGE_FLEET_KEYS": str(folder.parent / "keys"),
        "EDGE_KEY_PASSPHRASE": PASSPHRASE.decode(),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TIMEOUT": "60",
    }
    return subprocess.run(
        [*program, "script", "digits.onnx", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@pytest.mark.distributor
def test_release_script_brings_a_version_to_devices(
    server: FleetServer, canary: ScriptedDevice, tmp_path: Path
) -> None:
    """The script publishes, plans, rolls out to the canary and then to all, and ends with 0."""
    with obeying(canary, "committed"):
        ran = run_block(server, tmp_path / "job", ["bash"], release_script(), "1.0.0")
    assert ran.returncode == 0, ran.stderr
    assert "1 of 1 devices get team/digits 1.0.0" in ran.stdout
    with Fleet(server.serving.operator_address) as fleet:
        rollouts = fleet.rollout_list("team/digits")
        assert [one.cohort.selector for one in rollouts] == ["", "ring=canary"]
        assert {one.state for one in rollouts} == {"done"}
        (artifact,) = fleet.models("team/digits")
        assert artifact.version == "1.0.0"


@pytest.mark.distributor
def test_release_script_goes_back_when_it_fails(
    server: FleetServer, canary: ScriptedDevice, tmp_path: Path
) -> None:
    """Where the canary rolls back, the script undoes the rollout, ends with 6 and goes no
    further."""
    with obeying(canary, "rolled_back"):
        ran = run_block(server, tmp_path / "job", ["bash"], release_script(), "1.0.0")
    assert ran.returncode == 6, ran.stderr
    assert "rollout r1 was rolled back on gate-7" in ran.stderr
    with Fleet(server.serving.operator_address) as fleet:
        undo, rollout = fleet.rollout_list("team/digits")
    assert undo.undoes == rollout.rollout
    assert rollout.cohort.selector == "ring=canary"


def test_release_script_keeps_the_code_of_what_was_refused(tmp_path: Path) -> None:
    """Where no rollout can be created, the script ends with the code of that, and nothing of
    what it does next adds an error of its own."""
    command = tmp_path / "edge-fleet"
    command.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in "rollout create") ;; *) exit 0 ;; esac\n'
        "echo '{\"error\": {\"exit_code\": 7}}'\necho 'edge-fleet: no such model' >&2\nexit 7\n"
    )
    command.chmod(0o755)
    ran = subprocess.run(
        ["bash", "-c", release_script(), "release.sh", "digits.onnx", "1.0.0"],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "", "edge-fleet: no such model\n")


@pytest.mark.distributor
@pytest.mark.parametrize(("state", "code"), [("committed", 0), ("failed", 6)])
def test_python_form(
    server: FleetServer, canary: ScriptedDevice, tmp_path: Path, state: str, code: int
) -> None:
    """The Python form ends as the script does."""
    with obeying(canary, state):
        ran = run_block(server, tmp_path / "job", [sys.executable], blocks("python")[0], "1.0.0")
    assert ran.returncode == code, ran.stderr
    assert "bytes sent" in ran.stdout
    assert f"gate-7 {state}" in ran.stdout
