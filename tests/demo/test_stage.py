"""The stage starts real processes and leaves none behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from demo.stage import DemoError, Stage

READY = 'import json, os; print(json.dumps({"pid": os.getpid()}), flush=True)'
WAIT = "import time; time.sleep(60)"


def _python(*statements: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(statements)]


def _ended(pid: int) -> bool:
    """Gone, or dead and waiting for whoever inherited it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def _wait_until_ended(pid: int) -> None:
    deadline_s = time.monotonic() + 20
    while not _ended(pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert _ended(pid)


def test_closing_ends_a_process_and_its_children(tmp_path: Path) -> None:
    """When the stage closes, neither the process nor a child of it is left."""
    grandchild = tmp_path / "grandchild"
    program = (
        "import subprocess, sys, pathlib",
        f"child = subprocess.Popen([sys.executable, '-c', '{WAIT}'])",
        f"pathlib.Path({str(grandchild)!r}).write_text(str(child.pid))",
    )
    with Stage(tmp_path) as stage:
        pid = stage.start("one", _python(*program, READY, WAIT))["pid"]
        assert stage.dead() == []
    _wait_until_ended(pid)
    _wait_until_ended(int(grandchild.read_text()))


def test_a_process_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does not end when asked is killed after a while."""
    monkeypatch.setattr("demo.stage._END_S", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    with Stage(tmp_path) as stage:
        pid = stage.start("deaf", _python(deaf, READY, WAIT))["pid"]
    _wait_until_ended(pid)


def test_an_exception_closes_the_stage_too(tmp_path: Path) -> None:
    """Ctrl-C in the middle leaves nothing running."""
    pids: list[int] = []

    def interrupted() -> None:
        with Stage(tmp_path) as stage:
            pids.append(stage.start("one", _python(READY, WAIT))["pid"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    _wait_until_ended(pids[0])


def test_a_process_that_fails_to_start_says_why(tmp_path: Path) -> None:
    """A process that ends before it is ready is an error with the end of its output."""
    with Stage(tmp_path) as stage:
        with pytest.raises(DemoError, match="the reason"):
            stage.start("bad", _python("import sys; sys.exit('the reason')"))
        deadline_s = time.monotonic() + 20  # its output ends a moment before the process does
        while not stage.dead() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert stage.dead() == ["bad"]


def test_settings_of_the_caller_do_not_reach_the_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EDGE_* of whoever runs the demo changes nothing in it; telemetry is off."""
    monkeypatch.setenv("EDGE_AGENT_STATE", "/elsewhere")
    tell = "import json, os; print(json.dumps(dict(os.environ)), flush=True)"
    with Stage(tmp_path) as stage:
        environment = stage.start("one", _python(tell, WAIT))
    assert "EDGE_AGENT_STATE" not in environment
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["PATH"] == os.environ["PATH"]
