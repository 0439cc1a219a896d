"""``edge-agent`` given what nobody should give it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.attacked_command import assert_refused, call
from tests.support.processes import agent, stopping

AGENT = "device_agent.cli"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with state folders that cannot be used and settings that cannot work."""
    folder = tmp_path_factory.mktemp("agent")
    (folder / "file").write_bytes(b"")
    os.mkfifo(folder / "fifo")
    (folder / "newer").mkdir()
    (folder / "newer" / "FORMAT").write_text("9\n")
    (folder / "labels.toml").write_text("[agent]\nlabels = 5\n")
    (folder / "unknown.toml").write_text("[agent]\nstate_folder = 'x'\n")
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("run --device k --state file", 2, "file is no folder"),
        ("run --device k --state newer --json", 3, "format 9"),
        ("run --device k --state s --distributor nowhere", 2, "'nowhere'"),
        ("run --device k --state s --inference-address 0.0.0.0:1", 6, "not this machine"),
        ("run --device k --state s --local-address unix:/gone/a", 7, "no folder /gone"),
        ("run --device k --state s --config unknown.toml", 2, "state_folder"),
        ("config show --config labels.toml", 2, "labels 5"),
        ("config show --config fifo", 2, "no regular file"),
        ("status --state s --json", 5, "no agent runs"),
        ("events --state s --after " + "9" * 30, 2, "--after"),
        ("status --state " + "n" * 150, 2, "too long"),
    ],
)
def test_bad_input_is_one_line(made: Path, arguments: str, code: int, words: str) -> None:
    """Each bad input ends with its exit code and one line that names it; nothing is made."""
    ended = call(AGENT, *arguments.split(), folder=made)
    assert_refused(ended, code, words, as_json="--json" in arguments)


def test_empty_state_is_not_this_folder(made: Path) -> None:
    """An empty --state, such as of an unset variable, never means the current folder."""
    assert_refused(call(AGENT, "run", "--state", "", "--device", "k", folder=made), 2, "empty")


@pytest.mark.parametrize("state", ["gone", "file"])
def test_doctor_prints_one_document(made: Path, state: str) -> None:
    """A device that is not fit is one document and exit 6, not a document and an error."""
    ended = call(AGENT, "doctor", "--state", state, "--json", folder=made)
    assert (ended.code, ended.untouched) == (6, True)
    assert not json.loads(ended.out)["checks"][0]["ok"]


def test_second_agent_on_a_folder_is_refused(tmp_path: Path) -> None:
    """Two agents on one state folder: the second ends with exit 7, the first goes on."""
    (tmp_path / "elsewhere").mkdir()
    first = agent(tmp_path / "state", tmp_path / "log", "first", "")
    with stopping(first):
        second = call(
            AGENT,
            *("run", "--device", "second", "--state", tmp_path / "state", "--json"),
            folder=tmp_path / "elsewhere",
        )
        assert_refused(second, 7, "already runs", as_json=True)
        assert first.process.poll() is None
