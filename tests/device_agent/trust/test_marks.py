"""Marks outlast the cache: two copies of what was verified, put back before the client looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.store.filesystem import FileSystem
from device_agent.trust.marks import Marks, make_way, put_back
from tests.support.recording_files import Cut, RecordingFiles
from tests.support.tuf_repository import Repository


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def repository() -> Repository:
    """Three roots; timestamp and snapshot at version 2."""
    made = Repository()
    made.publish("root")
    made.publish("root")
    made.release("targets")
    return made


def mark(marks: Marks, repository: Repository) -> None:
    for name in ("2.root.json", "3.root.json", "timestamp.json"):
        marks.keep(name, repository.served[name])
    marks.keep("snapshot.json", repository.served["2.snapshot.json"])


def back(folder: Path, repository: Repository) -> list[str]:
    """What lies in the cache after ``put_back``."""
    cache = folder / "cache"
    make_way(FileSystem(), cache / "x", below=folder)
    first = repository.served["1.root.json"]
    put_back(Marks(FileSystem(), folder / "marks"), FileSystem(), cache, first)
    return names(cache)


ALL = ["root_history/2.root.json", "root_history/3.root.json", "snapshot.json", "timestamp.json"]


def test_everything_comes_back(tmp_path: Path, repository: Repository) -> None:
    """Into an empty cache, and in place of whatever a cache has become."""
    mark(Marks(FileSystem(), tmp_path / "marks"), repository)
    assert back(tmp_path, repository) == ALL
    cache = tmp_path / "cache"
    (cache / "timestamp.json").write_bytes(b"\0" * 100)
    (cache / "snapshot.json").unlink()
    (cache / "root_history" / "2.root.json").write_bytes(b"")
    assert back(tmp_path, repository) == ALL
    assert (cache / "timestamp.json").read_bytes() == repository.served["timestamp.json"]
    assert (cache / "snapshot.json").read_bytes() == repository.served["2.snapshot.json"]


@pytest.mark.parametrize("lost", ["a", "b"])
def test_one_copy_is_enough(tmp_path: Path, repository: Repository, lost: str) -> None:
    """And the other one is made whole from it."""
    mark(Marks(FileSystem(), tmp_path / "marks"), repository)
    for path in (tmp_path / "marks" / lost).iterdir():
        path.write_bytes(b"\0" * path.stat().st_size)
    assert back(tmp_path, repository) == ALL
    whole = {path.name: path.read_bytes() for path in (tmp_path / "marks" / lost).iterdir()}
    assert whole["timestamp.json"] == repository.served["timestamp.json"]
    assert whole["2.root.json"] == repository.served["2.root.json"]


def test_folders_in_place_of_marks(tmp_path: Path, repository: Repository) -> None:
    """A folder where a mark or the cache should have a file is no hindrance."""
    mark(Marks(FileSystem(), tmp_path / "marks"), repository)
    (tmp_path / "marks" / "a" / "timestamp.json").unlink()
    (tmp_path / "marks" / "a" / "timestamp.json" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "snapshot.json" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "root_history").write_bytes(b"no folder")
    assert back(tmp_path, repository) == ALL
    assert (tmp_path / "marks" / "a" / "timestamp.json").is_file()


def test_what_nobody_signed_is_no_mark(tmp_path: Path, repository: Repository) -> None:
    """Bytes are verified again: another repository's are left where they are."""
    stranger = Repository()
    stranger.publish("root")
    marks = Marks(FileSystem(), tmp_path / "marks")
    marks.keep("2.root.json", stranger.served["2.root.json"])
    marks.keep("timestamp.json", stranger.served["timestamp.json"])
    assert back(tmp_path, repository) == []


def test_a_newer_cache_is_not_taken_back(tmp_path: Path, repository: Repository) -> None:
    """Where the disk was full when a mark was due, the cache may know more than the marks."""
    mark(Marks(FileSystem(), tmp_path / "marks"), repository)
    back(tmp_path, repository)
    repository.publish("timestamp")
    (tmp_path / "cache" / "timestamp.json").write_bytes(repository.served["timestamp.json"])
    back(tmp_path, repository)
    for place in ("cache", "marks/a", "marks/b"):
        newest = (tmp_path / place / "timestamp.json").read_bytes()
        assert newest == repository.served["timestamp.json"]


def test_marks_of_replaced_keys_fall_away(tmp_path: Path, repository: Repository) -> None:
    """A mark is worth what its signature is worth under the newest root."""
    marks = Marks(FileSystem(), tmp_path / "marks")
    mark(marks, repository)
    repository.rotate("timestamp")
    repository.publish("root")
    marks.keep("4.root.json", repository.served["4.root.json"])
    assert "timestamp.json" not in back(tmp_path, repository)


def test_power_cut_at_every_step(tmp_path: Path, repository: Repository) -> None:
    """At any moment one copy holds the mark before or the new one, whole."""
    old, new = b"old" * 100, b"new" * 100
    undisturbed = RecordingFiles()
    Marks(undisturbed, tmp_path / "count" / "marks").keep("timestamp.json", new)
    steps = len(undisturbed.log)
    assert steps >= 8
    for step in range(steps):
        folder = tmp_path / str(step) / "marks"
        Marks(FileSystem(), folder).keep("timestamp.json", old)
        with pytest.raises(Cut):
            Marks(RecordingFiles(cut_at=step), folder).keep("timestamp.json", new)
            raise Cut
        left = Marks(FileSystem(), folder).copies("timestamp.json")
        assert left
        assert set(left) <= {old, new}


def test_a_mark_is_durable_before_keep_returns(tmp_path: Path) -> None:
    """Each copy: written, synced, renamed, and its folder synced."""
    files = RecordingFiles()
    (tmp_path / "marks").mkdir()
    Marks(files, tmp_path / "marks").keep("timestamp.json", b"x")
    operations = [one for one in files.operations() if one != "make_folder"]
    assert operations[-4:] == ["write", "sync_file", "rename", "sync_folder"]
    assert operations.count("sync_file") == 2
    before = len(files.log)
    Marks(files, tmp_path / "marks").keep("timestamp.json", b"x")
    assert files.operations()[before:] == []
