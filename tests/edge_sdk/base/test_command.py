"""Commands end with the documented exit codes, and keep standard output for results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from edge_sdk.base import DeltaError, FormatError, UsageError
from edge_sdk.base.command import (
    Settings,
    bytes_text,
    json_option,
    note,
    print_json,
    print_table,
    progress,
    run,
)
from tests.support.processes import unmeasured


@click.group()
@click.version_option("0.1.0", prog_name="edge-test")
@click.option("--debug", is_flag=True, expose_value=False)
def cli() -> None:
    """A command for tests."""


@cli.command()
@json_option
def good(as_json: bool) -> None:
    if as_json:
        print_json({"done": True})
    else:
        click.echo("done")


@cli.command()
@json_option
@click.argument("kind")
def bad(as_json: bool, kind: str) -> None:
    raises: dict[str, Callable[[], BaseException]] = {
        "delta": lambda: DeltaError("delta d.bin:\n  truncated", record=3, path=Path("d.bin")),
        "defect": lambda: ZeroDivisionError("by zero"),
        "interrupt": KeyboardInterrupt,
        "abort": click.Abort,
        "usage": lambda: click.BadParameter("must be positive"),
        "plain": lambda: click.ClickException("no context"),
        "exit": lambda: click.exceptions.Exit(6),
    }
    raise raises[kind]()


Outcome = tuple[int, str, str]
Runner = Callable[..., Outcome]


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Runner:
    """Runs the command in this process: exit code, standard output, standard error."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["edge-test", *arguments])
        before = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as ended:
                run(cli, "edge-test")
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return code, out, err

    return call


def test_success_is_zero(outcome: Runner) -> None:
    """A command that is done exits 0 and says nothing on standard error."""
    assert outcome("good") == (0, "done\n", "")


def test_json_is_one_document(outcome: Runner) -> None:
    """With ``--json`` standard output is one document and nothing else."""
    code, out, err = outcome("good", "--json")
    assert (code, json.loads(out), err) == (0, {"done": True}, "")


def test_h_is_help_everywhere(outcome: Runner) -> None:
    """``-h`` is listed and works, in the command and below it."""
    for typed in (("-h",), ("good", "-h")):
        code, out, err = outcome(*typed)
        assert (code, "-h, --help" in out, err) == (0, True, "")


def test_a_command_that_there_is_not(outcome: Runner) -> None:
    """The one that is like it is named, or one that begins as it does, or all."""
    assert "Did you mean" in outcome("goodd")[2]
    assert "Did you mean 'good'?" in outcome("godfather")[2]
    code, _, err = outcome("xyz")
    assert (code, "There are bad, good." in err) == (2, True)


def test_error_is_one_line(outcome: Runner) -> None:
    """An error is one line on standard error, with the exit code of its class."""
    assert outcome("bad", "delta") == (3, "", "edge-test: delta d.bin: truncated\n")


def test_error_as_json(outcome: Runner) -> None:
    """With ``--json`` the error is a document too: reason, message, exit code, facts."""
    code, out, err = outcome("bad", "delta", "--json")
    assert code == 3
    assert json.loads(out) == {
        "error": {
            "reason": "DeltaError",
            "message": "delta d.bin: truncated",
            "exit_code": 3,
            "facts": {"record": 3, "path": "d.bin"},
        }
    }
    assert err == "edge-test: delta d.bin: truncated\n"


def test_defect_is_exit_one_without_traceback(outcome: Runner) -> None:
    """Any other exception is a defect of ours: exit 1, one line, the way to the traceback."""
    code, out, err = outcome("bad", "defect", "--json")
    assert code == 1
    assert json.loads(out)["error"]["reason"] == "Defect"
    assert err.count("\n") == 1
    assert "ZeroDivisionError" in err
    assert "--debug" in err


@pytest.mark.parametrize(("kind", "error"), [("defect", ZeroDivisionError), ("delta", DeltaError)])
def test_debug_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, kind: str, error: type[Exception]
) -> None:
    """With ``--debug`` the exception is not caught."""
    monkeypatch.setattr(sys, "argv", ["edge-test", "--debug", "bad", kind])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(error):
            run(cli, "edge-test")
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("kind", ["interrupt", "abort"])
def test_interrupt_is_130(outcome: Runner, kind: str) -> None:
    """Ctrl-C exits 130 and says that nothing was left half-written."""
    code, out, err = outcome("bad", kind)
    assert (code, out) == (130, "")
    assert "interrupted" in err


@pytest.mark.parametrize(
    "arguments", [["bad"], ["bad", "usage"], ["nothing"], ["good", "--unknown"], ["bad", "plain"]]
)
def test_wrong_usage_is_two(outcome: Runner, arguments: list[str]) -> None:
    """A missing argument, unknown command or option, bad value: exit 2 and one line."""
    code, out, err = outcome(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("edge-test: ")
    assert err.count("\n") == 1


def test_wrong_usage_names_the_help(outcome: Runner) -> None:
    """A usage error says where the help is."""
    assert "'edge-test good --help'" in outcome("good", "--unknown")[2]


def test_exit_code_of_click_is_kept(outcome: Runner) -> None:
    """A command that ends itself with a code ends with that code."""
    assert outcome("bad", "exit")[0] == 6


def test_help_and_version(outcome: Runner) -> None:
    """``--help`` and ``--version`` are results: standard output, exit 0."""
    code, out, _ = outcome("--version")
    assert (code, out) == (0, "edge-test, version 0.1.0\n")
    code, out, _ = outcome("--help")
    assert code == 0
    assert "A command for tests." in out


PROGRAM = """
import sys, time, click
from edge_sdk.base.command import run
@click.command()
@click.option("--flood", is_flag=True)
def cli(flood):
    while flood:
        click.echo("x" * 65536)
    try:
        click.echo("ready")  # a signal may come from here on
        sys.stdout.flush()
        time.sleep(60)
    finally:
        if not flood:
            click.echo("unwound", err=True)
run(cli, "edge-test")
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=unmeasured(),
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_unwind(number: signal.Signals, code: int) -> None:
    """SIGINT and SIGTERM run the clean-up of what was going on, then exit 130 and 143."""
    with start() as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "unwound" in err
    assert "Traceback" not in err


def test_closed_pipe_is_quiet() -> None:
    """When the reader of our output goes away, nothing is said about it."""
    with start("--flood") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


def test_tables_are_plain_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Off a terminal a table has no escape codes, no box, and full words."""
    print_table(["model", "version"], [["team/digits" * 9, "1.0.0"]], title="Models")
    out = capsys.readouterr().out
    assert "team/digits" * 9 in out
    assert "\x1b" not in out
    assert "Models" in out


def test_words_of_a_peer_are_only_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Text from devices and models is no markup, no picture and never steers the terminal."""
    print_table(["WHY"], [["install edge-model-sdk[agent] :smile: [/] \x1b[2J"]])
    shown = capsys.readouterr().out
    assert "install edge-model-sdk[agent] :smile: [/] \ufffd[2J" in shown
    note("gate-7: \x1b]0;owned\x07")
    assert capsys.readouterr().err == "gate-7: \ufffd]0;owned\ufffd\n"


def test_progress_is_silent_off_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Off a terminal a progress bar writes nothing at all."""
    with progress("sending", 100) as advance:
        advance(50)
    assert capfd.readouterr() == ("", "")


def test_progress_bar_is_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the bar goes to standard error, and standard output stays empty."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("sending", 100) as advance:
        advance(100)
    out, err = capfd.readouterr()
    assert out == ""
    assert "sending" in err


def test_notes_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A note for people never mixes with results."""
    note("seeded inputs were made")
    assert capsys.readouterr() == ("", "seeded inputs were made\n")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_700_000, "12.7 MB"),
     (89_200_000_000, "89.2 GB"), (5 * 10**15, "5000000.0 GB")],
)  # fmt: skip
def test_bytes_for_people(count: int, text: str) -> None:
    """Byte counts are shown in decimal units."""
    assert bytes_text(count) == text


def settings_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "edge.toml"
    file.write_text(text)
    return file


def test_flag_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of flag, environment, file and default that has a value wins, and is named."""
    file = settings_file(tmp_path, "[agent]\na = 'f'\nb = 'f'\nc = 'f'\n")
    monkeypatch.setenv("EDGE_AGENT_A", "e")
    monkeypatch.setenv("EDGE_AGENT_B", "e")
    settings = Settings("agent", file)
    values = [settings.get("a", "flag", "d")]
    values += [settings.get(key, None, "d") for key in ("b", "c", "d")]
    assert values == ["flag", "e", "f", "d"]
    assert {key: shown["from"] for key, shown in settings.shown().items()} == {
        "a": "flag",
        "b": "environment EDGE_AGENT_B",
        "c": f"file {file}",
        "d": "default",
    }


def test_unknown_keys_are_found(tmp_path: Path) -> None:
    """A key that nothing asked for is most likely misspelt, and is told."""
    settings = Settings("agent", settings_file(tmp_path, "[agent]\nstate_dri = 'x'\nlimit = 1\n"))
    settings.get("limit", None, 2)
    assert settings.unknown() == ["state_dri"]


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [("1", False, True), ("YES", False, True), ("off", True, False), ("", True, False),
     ("17", 3, 17), ("0.5", 1.0, 0.5), ("text", "d", "text"), ("a,b", None, "a,b")],
)  # fmt: skip
def test_environment_takes_the_type_of_the_default(
    monkeypatch: pytest.MonkeyPatch, text: str, default: Any, value: Any
) -> None:
    """Text from the environment becomes a truth value or a number where the default is one."""
    monkeypatch.setenv("EDGE_AGENT_STATE_DIR", text)
    got = Settings("agent", None).get("state-dir", None, default)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(("text", "default"), [("maybe", True), ("many", 3), ("", 0.5)])
def test_environment_of_wrong_type_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, default: Any
) -> None:
    """Text that is no such value is wrong usage, and the variable is named."""
    monkeypatch.setenv("EDGE_AGENT_LIMIT", text)
    with pytest.raises(UsageError, match="EDGE_AGENT_LIMIT"):
        Settings("agent", None).get("limit", None, default)


@pytest.mark.parametrize(
    ("text", "default"),
    [("limit = 'many'", 3), ("limit = true", 3), ("limit = true", 0.5), ("limit = 1", True),
     ("limit = 2", "text"), ("limit = 1.5", 1)],
)  # fmt: skip
def test_file_of_wrong_type_is_refused(tmp_path: Path, text: str, default: Any) -> None:
    """A value of another type in the file is wrong usage, and key and file are named."""
    file = settings_file(tmp_path, f"[agent]\n{text}\n")
    with pytest.raises(UsageError, match=r"limit .*edge\.toml"):
        Settings("agent", file).get("limit", None, default)


def test_whole_number_in_file_serves_as_float(tmp_path: Path) -> None:
    """``30`` in the file is fine where seconds are a float."""
    file = settings_file(tmp_path, "[agent]\nlimit = 30\n")
    assert Settings("agent", file).get("limit", None, 0.5) == 30


@pytest.mark.parametrize("data", [b"[agent", b"\xff\xfe", b"agent = 3"])
def test_file_that_is_no_settings(tmp_path: Path, data: bytes) -> None:
    """A file that is not TOML, not UTF-8, or has no such table is refused as damaged."""
    file = tmp_path / "edge.toml"
    file.write_bytes(data)
    with pytest.raises(FormatError, match=r"edge\.toml"):
        Settings("agent", file)


def test_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    """A configuration file that was named must be there."""
    with pytest.raises(UsageError, match="none"):
        Settings("agent", tmp_path / "none.toml")


def test_other_tables_are_ignored(tmp_path: Path) -> None:
    """One file serves all commands: the tables of the others are not ours."""
    settings = Settings("agent", settings_file(tmp_path, "[fleet]\nlimit = 1\n"))
    assert settings.get("limit", None, 5) == 5
    assert settings.unknown() == []
    assert "EDGE_AGENT_LIMIT" not in os.environ
