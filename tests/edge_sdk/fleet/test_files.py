"""Files that a publisher names: regular ones only, and no link is ever followed."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edge_sdk.base import FormatError, NotFoundError, UsageError
from edge_sdk.fleet.files import kind_of, list_files


def test_every_file_is_listed_sorted(tmp_path: Path) -> None:
    """All files below a folder are listed by relative POSIX path, sorted; empty folders are not."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "deep").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("z.txt", "b/deep/a.bin", "b/c.txt", ".hidden"):
        (tmp_path / name).write_bytes(b"x")
    assert list_files(tmp_path) == (".hidden", "b/c.txt", "b/deep/a.bin", "z.txt")


@pytest.mark.parametrize("what", ["file", "folder", "nothing"])
def test_symbolic_link_is_refused(tmp_path: Path, what: str) -> None:
    """A link in the folder is refused, whatever it points at: nothing comes in unseen."""
    outside = tmp_path / "outside"
    folder = tmp_path / "model"
    folder.mkdir()
    if what == "file":
        outside.write_bytes(b"secret")
    elif what == "folder":
        outside.mkdir()
    (folder / "link").symlink_to(outside)
    with pytest.raises(FormatError, match="link is a symbolic link"):
        list_files(folder)


def test_special_file_is_refused(tmp_path: Path) -> None:
    """A pipe or a socket among the files is refused instead of read for ever."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="pipe is no regular file"):
        list_files(tmp_path)
    with pytest.raises(FormatError, match="neither a file nor a folder"):
        kind_of(tmp_path / "pipe")


def test_name_that_no_other_disk_can_hold_is_refused(tmp_path: Path) -> None:
    """A file name with a backslash or a colon is refused by name."""
    (tmp_path / "a:b").write_bytes(b"x")
    with pytest.raises(FormatError, match="a:b"):
        list_files(tmp_path)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    """A folder without any file cannot be an artifact."""
    with pytest.raises(UsageError, match="no file"):
        list_files(tmp_path)


def test_kind_of_what_is_named(tmp_path: Path) -> None:
    """What a person names may be a link to a file; a missing one or a dangling link is said."""
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert kind_of(tmp_path) == "folder"
    assert kind_of(tmp_path / "alias") == "file"
    with pytest.raises(NotFoundError, match="gone-too"):
        kind_of(tmp_path / "gone-too")
    with pytest.raises(FormatError, match="dangling"):
        kind_of(tmp_path / "dangling")


def test_unreadable_folder_is_said() -> None:
    """A folder that cannot be listed is an error that names it."""
    with pytest.raises(UsageError, match="not the kind"):
        list_files(Path("/dev/null"))
    with pytest.raises(UsageError, match="not the kind"):
        kind_of(Path("/dev/null/below"))


def test_socket_is_refused(tmp_path: Path) -> None:
    """A socket that another program left there is refused."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        with pytest.raises(FormatError, match="s is no regular file"):
            list_files(tmp_path)
