"""The command ``edge-distributor``: exit codes, one JSON document, clear errors."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from distributor.cli import cli, main
from tests.support.commands import Ran, run_main
from tests.support.processes import distributor, environment, stopping


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def act(*arguments: str) -> Ran:
        return run_main(main, list(arguments), capsys, monkeypatch)

    return act


def test_init(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The folder is made once, and found the second time."""
    data = str(tmp_path / "data")
    first = run("init", "--data", data, "--json")
    assert (first.code, first.document) == (0, {"created": True, "data": data})
    second = run("init", "--data", data)
    assert (second.code, second.out) == (0, "")
    assert "is there already" in second.err


def test_a_folder_knows_that_its_catalog_is_elsewhere(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The hint after ``init`` repeats where, and nothing begins another catalog by mistake."""
    data, database = str(tmp_path / "data"), f"sqlite:///{tmp_path}/fleet.db"
    made = run("init", "--data", data, "--database", database)
    assert f"serve --data {data} --database {database}" in made.err
    assert (tmp_path / "data" / "database").read_text() == f"{database}\n"
    for command in (("serve",), ("init",), ("keys", "list")):
        ran = run(*command, "--data", data)
        assert (ran.code, database in ran.err, "--database" in ran.err) == (7, True, True), command
    other = run("init", "--data", data, "--database", f"{database}.new")
    assert (other.code, "if it was moved" in other.err) == (7, True)
    assert sorted(one.name for one in tmp_path.glob("**/*.db*")) == ["fleet.db"]
    assert run("keys", "list", "--data", data, "--database", database).code == 0


def test_init_refuses_a_foreign_folder(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A folder with other things in it ends with exit code 7 and one line."""
    (tmp_path / "thesis.txt").write_text("mine")
    ran = run("init", "--data", str(tmp_path))
    assert (ran.code, ran.out, ran.err.count("\n")) == (7, "", 1)
    assert "not empty" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["serve", "--data", "{tmp}/nothing"], 7, "init --data"),
        (["serve", "--data", "{tmp}/data", "--device-address", "0.0.0.0:0"], 6, "not this machine"),
        (["serve", "--data", "{tmp}/data", "--device-address", "nonsense"], 2, "nonsense"),
        (["serve", "--data", "{tmp}/data", "--build-workers", "0"], 2, "build workers"),
        (["serve", "--data", "{tmp}/data", "--check-in-s", "-1"], 2, "check_in_s"),
        (["serve", "--data", "{tmp}/data", "--fetches-max", "0"], 2, "fetch"),
        (["serve", "--data", "{tmp}/data", "--delta-storage-bytes", "-1"], 2, "0: no limit"),
        (["serve", "--bogus"], 2, "bogus"),
        (["init", "--data", "{tmp}/data/format"], 2, "name a folder"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_errors(run, tmp_path: Path, arguments: list[str], code: int, text: str) -> None:  # type: ignore[no-untyped-def]
    """Each mistake has its exit code and one line that names it; with --json a document too."""
    run("init", "--data", str(tmp_path / "data"))
    filled = [one.replace("{tmp}", str(tmp_path)) for one in arguments]
    ran = run(*filled)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert text in ran.err
    assert run(*filled, "--json").document["error"]["exit_code"] == code


def test_config_show(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Every setting is shown with where it came from; a misspelt one is named."""
    file = tmp_path / "edge.toml"
    file.write_text("[distributor]\ncheck_in_s = 5.0\nchek_in = 1\n")
    monkeypatch.setenv("EDGE_DISTRIBUTOR_BUILD_WORKERS", "3")
    ran = run("config", "show", "--config", str(file), "--data", "here", "--json")
    shown = ran.document["settings"]
    assert shown["data"] == {"value": "here", "from": "flag"}
    assert shown["build_workers"]["value"] == 3
    assert shown["check_in_s"] == {"value": 5.0, "from": f"file {file}"}
    assert shown["certificate_days"] == {"value": 30.0, "from": "default"}
    assert ran.document["unknown"] == ["chek_in"]
    table = run("config", "show", "--config", str(file))
    assert "EDGE_DISTRIBUTOR_BUILD_WORKERS" in table.out
    assert "chek_in" in table.err


def test_every_command_has_help_with_an_example() -> None:
    """--help works everywhere and shows how to call it."""
    runner = CliRunner()
    for path in ([], ["init"], ["serve"], ["config", "show"]):
        shown = runner.invoke(cli, [*path, "--help"])
        assert shown.exit_code == 0
        assert "edge-distributor" in shown.output
        assert "Example" in shown.output
    assert "edge-distributor" in runner.invoke(cli, ["--version"]).output


def test_a_port_in_use(tmp_path: Path) -> None:
    """A second server on the port ends with exit code 7 and says why; the first goes on."""
    first = distributor(tmp_path / "one", tmp_path / "log")
    with stopping(first):
        data = tmp_path / "two"
        for arguments in (
            ["init", "--data", str(data)],
            ["serve", "--data", str(data), "--json", "--operator-address", "127.0.0.1:0"],
        ):
            more = ["--device-address", first.ready["device_address"]]
            ran = subprocess.run(
                [sys.executable, "-m", "distributor", *arguments, *(more * (len(arguments) > 3))],
                capture_output=True,
                text=True,
                env=environment(),
                timeout=60,
                check=False,
            )
        assert ran.returncode == 7
        assert "in use" in json.loads(ran.stdout)["error"]["message"]
        assert "Traceback" not in ran.stderr


def test_ctrl_c_ends_it_well(tmp_path: Path) -> None:
    """SIGINT ends a serving distributor as SIGTERM does, but with exit code 130 in place of 0."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 0)):
        command = distributor(tmp_path / "data", tmp_path / "log")
        command.process.send_signal(number)
        assert command.process.wait(30) == code
        assert "Traceback" not in command.said()


def test_impatience_changes_nothing(tmp_path: Path) -> None:
    """Ctrl-C again and again, as a parent passes it on, leaves no traceback and the same code."""
    command = distributor(tmp_path / "data", tmp_path / "log")
    deadline_s = time.monotonic() + 30
    while command.process.poll() is None and time.monotonic() < deadline_s:
        command.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.process.wait(0.005)
    assert command.process.wait(30) == 130
    assert "Traceback" not in command.said()
