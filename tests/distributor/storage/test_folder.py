"""The data folder: made once, recognised, and served by one process only."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.storage import DataFolder
from edge_sdk.base import ConflictError, NotFoundError, UsageError


def test_made_once(tmp_path: Path) -> None:
    """The first call makes the folder, the second finds it."""
    folder = DataFolder(tmp_path / "deep" / "data")
    assert folder.create()
    assert not DataFolder(tmp_path / "deep" / "data").create()
    folder.check()


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    """A folder with something else in it is refused and stays as it is."""
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConflictError, match="not empty"):
        DataFolder(tmp_path).create()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_its_place(tmp_path: Path) -> None:
    """A file where the folder should be is a usage error."""
    (tmp_path / "data").write_text("a file")
    with pytest.raises(UsageError, match="is a file"):
        DataFolder(tmp_path / "data").create()
    with pytest.raises(NotFoundError):
        DataFolder(tmp_path / "data").check()


def test_no_distributor_here(tmp_path: Path) -> None:
    """Serving a folder that was never made says how to make it."""
    with pytest.raises(NotFoundError, match="edge-distributor init --data"):
        DataFolder(tmp_path).check()


def test_an_unknown_format(tmp_path: Path) -> None:
    """A folder of another format is refused."""
    DataFolder(tmp_path / "data").create()
    (tmp_path / "data" / "format").write_text("edge-distributor 99\n")
    with pytest.raises(ConflictError, match="format"):
        DataFolder(tmp_path / "data").check()


def test_only_one_owner(tmp_path: Path) -> None:
    """While one holds the folder another cannot; afterwards it can."""
    folder = DataFolder(tmp_path / "data")
    folder.create()
    with folder.owned(), pytest.raises(ConflictError, match="another distributor"):
        DataFolder(tmp_path / "data").owned().__enter__()
    with DataFolder(tmp_path / "data").owned():
        assert folder.work.is_dir()


def test_leftovers_of_builds_go(tmp_path: Path) -> None:
    """What a killed process left in the work folder is gone after the next start."""
    folder = DataFolder(tmp_path / "data")
    folder.create()
    (folder.work / "abc").mkdir()
    (folder.work / "abc" / "delta").write_bytes(b"half")
    with folder.owned():
        assert list(folder.work.iterdir()) == []
