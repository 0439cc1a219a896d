"""What a killed process left half-made goes with the next run, and nothing else."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.base import leftovers, whole_file, whole_folder

WRITER = """
import sys
from pathlib import Path
from edge_sdk.base import whole_file, whole_folder
make = whole_folder if sys.argv[2] == "folder" else whole_file
with make(Path(sys.argv[1]), replace=True) as made:
    if sys.argv[2] == "folder":
        (made / "inner").write_bytes(b"half")
    print("begun", flush=True)
    sys.stdin.readline()
"""


def begun(path: Path, kind: str) -> subprocess.Popen[bytes]:
    """A process that is making ``path`` and waits in the middle."""
    command = [sys.executable, "-c", WRITER, str(path), kind]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def make(path: Path, kind: str) -> None:
    if kind == "folder":
        with whole_folder(path, replace=True) as folder:
            (folder / "inner").write_bytes(b"whole")
    else:
        with whole_file(path, replace=True) as stream:
            stream.write(b"whole")


def temporary(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".tmp"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_with_the_next_run(tmp_path: Path, kind: str) -> None:
    """Of the same target only; what a living process is making stays, and gets its name."""
    target = tmp_path / "out"
    with begun(target, kind) as dead:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        (left,) = temporary(tmp_path)
        make(tmp_path / "another", kind)
        assert temporary(tmp_path) == [left]
    with begun(target, kind) as living:
        assert len(temporary(tmp_path)) == 1
        assert left not in temporary(tmp_path)
        make(target, kind)
        assert len(temporary(tmp_path)) == 1
        living.communicate(b"\n")
    assert living.returncode == 0
    assert temporary(tmp_path) == []
    assert target.exists()


def test_names_of_others_stay(tmp_path: Path) -> None:
    """Links, and names that are only alike, are none of ours."""
    (tmp_path / "elsewhere").write_bytes(b"kept")
    link = tmp_path / ".out.0123456789ab.tmp"
    link.symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / ".out.0123456789cd.tmp")
    for name in (
        ".out.0123456789ab.tmp~",
        ".out.0123456789.tmp",
        ".out.XYZ3456789ab.tmp",
        "out.tmp",
    ):
        (tmp_path / name).write_bytes(b"kept")
    before = {path.name for path in tmp_path.iterdir()}
    make(tmp_path / "out", "file")
    assert {path.name for path in tmp_path.iterdir()} == before | {"out"}
    (tmp_path / ".out.0123456789ef.tmp").write_bytes(b"left")
    make(tmp_path / "out", "file")
    assert {path.name for path in tmp_path.iterdir()} == before | {"out"}


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_was_taken_for_left_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Between making and locking somebody else may come by."""
    real: Callable[[int, int], None] = fcntl.flock
    taken = []

    def too_late(handle: int, operation: int) -> None:
        if not taken:
            (name,) = temporary(tmp_path)
            path = tmp_path / name
            taken.append(path.rmdir() if path.is_dir() else path.unlink())
        real(handle, operation)

    monkeypatch.setattr(fcntl, "flock", too_late)
    make(tmp_path / "out", kind)
    assert taken
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a disk without them."""
    monkeypatch.setattr(leftovers, "_HAS_LOCKS", False)
    (tmp_path / ".out.0123456789ef.tmp").write_bytes(b"left")
    for kind in ("file", "folder"):
        make(tmp_path / kind, kind)
    make(tmp_path / "out", "file")
    assert len(temporary(tmp_path)) == 1


def test_a_disk_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There nothing is taken for left, and everything else works."""

    def refuse(_handle: int, _operation: int) -> None:
        raise OSError("no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / ".out.0123456789ef.tmp").write_bytes(b"left")
    make(tmp_path / "out", "file")
    assert (tmp_path / "out").read_bytes() == b"whole"
    assert len(temporary(tmp_path)) == 1
