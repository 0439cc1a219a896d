"""The order of operations that a power cut cannot break."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.store import durable
from tests.support.recording_files import Cut, RecordingFiles


def test_c24_write_whole_syncs_before_and_after_the_rename(tmp_path: Path) -> None:
    """Temporary name, fsync, rename, fsync of the folder: exactly these, in this order."""
    files = RecordingFiles()
    durable.write_whole(files, tmp_path / "name", b"data")
    assert files.log == [
        ("write", (".name.tmp",)),
        ("sync_file", (".name.tmp",)),
        ("rename", (".name.tmp", "name")),
        ("sync_folder", (tmp_path.name,)),
    ]
    assert (tmp_path / "name").read_bytes() == b"data"


@pytest.mark.parametrize("cut_at", range(4))
def test_a_cut_anywhere_leaves_old_or_new(tmp_path: Path, cut_at: int) -> None:
    """Whatever was done before the cut, the name holds one whole value."""
    path = tmp_path / "name"
    path.write_bytes(b"old")
    files = RecordingFiles(cut_at=cut_at)
    with pytest.raises(Cut):
        durable.write_whole(files, path, b"new")
    assert path.read_bytes() == (b"new" if cut_at == 3 else b"old")
    durable.write_whole(RecordingFiles(), path, b"newer")
    assert path.read_bytes() == b"newer"


def test_append_syncs_the_file_and_a_new_files_folder(tmp_path: Path) -> None:
    """The name of a new file is durable too; later appends need only the file."""
    files = RecordingFiles()
    durable.append(files, tmp_path / "log", b"a")
    durable.append(files, tmp_path / "log", b"b")
    assert files.operations() == ["append", "sync_file", "sync_folder", "append", "sync_file"]
    assert (tmp_path / "log").read_bytes() == b"ab"


def test_place_syncs_the_bytes_before_their_final_name(tmp_path: Path) -> None:
    """A blob has its name only once its bytes are durable."""
    (tmp_path / "part").write_bytes(b"x")
    files = RecordingFiles()
    durable.place(files, tmp_path / "part", tmp_path / "blob")
    assert files.operations() == ["sync_file", "rename", "sync_folder"]


def test_folders_and_removals_are_durable(tmp_path: Path) -> None:
    """Made once, removed once, each with a sync of the parent."""
    files = RecordingFiles()
    durable.make_folder(files, tmp_path / "d")
    durable.make_folder(files, tmp_path / "d")
    (tmp_path / "x").write_bytes(b"")
    durable.remove(files, tmp_path / "x")
    durable.remove(files, tmp_path / "x")
    assert files.operations() == ["make_folder", "sync_folder", "unlink", "sync_folder"]
