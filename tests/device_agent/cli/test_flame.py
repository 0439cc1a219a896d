"""``edge-agent flame``: py-spy on a process, and what it is told when that cannot be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_agent.cli import flame, main
from device_agent.cli.flame import explained, find_profiler, record
from edge_sdk.base import EdgeError, NotFoundError, RefusedError, UnavailableError, UsageError
from tests.support.commands import Ran, run_main
from tests.support.served_page import served_page
from tests.support.used_page import used_words

LOOK = ["--duration", "1", "--rate", "50", "--format", "raw", "--nonblocking"]
BUSY = "print(flush=True)\ndef turning():\n    while True: sum(range(500))\nturning()"


@pytest.fixture
def edge_agent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    return lambda *arguments: run_main(main, list(arguments), capsys, monkeypatch)


@pytest.fixture
def busy() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.kill()
    process.stdout.close()
    process.wait()


def script(folder: Path, text: str) -> str:
    """A program that stands for py-spy; ``$5`` is where it shall write."""
    path = folder / "py-spy"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_functions_of_the_process_are_seen(busy: int, tmp_path: Path) -> None:
    """Where the machine permits it, the stacks of a process name what it does."""
    out = tmp_path / "stacks.txt"
    try:
        record(find_profiler(), busy, out, LOOK, 1)
    except RefusedError as refused:
        pytest.skip(f"not permitted on this machine: {refused.message}")
    assert "turning" in out.read_text()
    assert list(tmp_path.iterdir()) == [out]


def test_the_whole_command(
    tmp_path: Path, edge_agent: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is that of the statistics page; the format follows from the file's name."""
    program = script(tmp_path, 'echo "$@" > "$5"')
    monkeypatch.setattr(flame, "find_profiler", lambda: program)
    out = tmp_path / "flame.json"
    with served_page(tmp_path / "a", used_words()) as state:
        ran = edge_agent("flame", "--state", state, "--seconds", "2", "--out", str(out), "--json")
        assert ran.document == {"pid": 77, "seconds": 2, "format": "speedscope", "out": str(out)}
        words = out.read_text().split()
        assert words[:3] == ["record", "--pid", "77"]
        assert {"--nonblocking", "speedscope"} <= set(words)
        shown = edge_agent("flame", "--state", state, "--out", str(out), "--native")
        assert (shown.code, "wrote" in shown.err) == (0, True)
        assert "--native" in out.read_text()
        assert edge_agent("flame", "--state", state, "--out", "flame.png").code == 2
        nowhere = edge_agent("flame", "--state", state, "--out", str(tmp_path / "no" / "f.svg"))
        assert (nowhere.code, "no folder" in nowhere.err) == (7, True)
    with served_page(tmp_path / "b", None) as state:
        assert edge_agent("flame", "--state", state).code == 5


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("Permission Denied: Try running again with elevated permissions", RefusedError, "PTRACE"),
        ("Error: Failed to write flamegraph: No stack counts found", UnavailableError, "requests"),
        ("Error: the moon is full", EdgeError, "the moon is full"),
    ],
)
def test_a_failure_says_what_to_do(
    tmp_path: Path, said: str, error: type[EdgeError], words: str
) -> None:
    """No permission, nothing to see, and anything else; no file is left behind."""
    program = script(tmp_path, f'touch "$5"; echo "{said}" >&2; exit 1')
    out = tmp_path / "flame.svg"
    with pytest.raises(error, match=words) as refused:
        record(program, os.getpid(), out, LOOK, 1)
    assert type(refused.value) is error
    assert [path.name for path in tmp_path.iterdir()] == ["py-spy"]


def test_a_folder_that_cannot_be_written_is_not_blamed_on_the_process(tmp_path: Path) -> None:
    """What the profiler says of both is nearly the same."""
    program = script(tmp_path, 'echo "Permission denied" >&2; exit 1')
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="flame"):
        record(program, os.getpid(), tmp_path / "file" / "flame.svg", LOOK, 1)


def test_a_process_that_is_gone() -> None:
    """It was started again meanwhile: another try finds the new one."""
    assert isinstance(explained(2**22 + 1, "whatever"), NotFoundError)


def test_a_profiler_that_hangs_or_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is ended after its time, the other is a typed error, too."""
    monkeypatch.setattr(flame, "_BESIDE_S", 0.1)
    with pytest.raises(UnavailableError, match="did not end"):
        record(script(tmp_path, "exec sleep 60"), os.getpid(), tmp_path / "f.svg", LOOK, 0)
    with pytest.raises(EdgeError):
        record(str(tmp_path / "nothing"), os.getpid(), tmp_path / "f.svg", LOOK, 0)


def test_without_py_spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal says what to install; py-spy of the machine is taken where there is one."""
    monkeypatch.setattr(flame.sysconfig, "get_path", lambda _name: str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RefusedError, match=r"edge-model-sdk\[flame\]"):
        find_profiler()
    wanted = script(tmp_path, "true")
    assert find_profiler() == wanted
