"""Output files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_sdk.base import (
    ConflictError,
    NotFoundError,
    ResourceError,
    UsageError,
    explain_os_error,
    whole_file,
    whole_folder,
)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_bytes_appear_when_the_block_ends(tmp_path: Path) -> None:
    """The name is taken only after the last byte, and no temporary file stays."""
    target = tmp_path / "out.bin"
    with whole_file(target, replace=False) as stream:
        stream.write(b"all of it")
        assert not target.exists()
    assert target.read_bytes() == b"all of it"
    assert names(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_stays_after_a_failure(tmp_path: Path, error: type[BaseException]) -> None:
    """Any exception, Ctrl-C included, leaves neither a partial nor a temporary file."""
    with pytest.raises(error), whole_file(tmp_path / "out", replace=False) as stream:
        stream.write(b"half")
        raise error
    assert names(tmp_path) == []


def test_failure_keeps_what_was_there(tmp_path: Path) -> None:
    """A failed replacement leaves the file that was to be replaced."""
    target = tmp_path / "out"
    target.write_bytes(b"before")
    with pytest.raises(ValueError), whole_file(target, replace=True) as stream:
        stream.write(b"after")
        raise ValueError
    assert target.read_bytes() == b"before"
    assert names(tmp_path) == ["out"]


def test_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    """Without ``replace`` an existing file is a conflict; with it the file is replaced."""
    target = tmp_path / "out"
    target.write_bytes(b"before")
    with pytest.raises(ConflictError, match="--force"), whole_file(target, replace=False):
        pass
    assert target.read_bytes() == b"before"
    with whole_file(target, replace=True) as stream:
        stream.write(b"after")
    assert target.read_bytes() == b"after"


def test_file_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    """A file that somebody else made while we wrote is not replaced."""
    target = tmp_path / "out"
    with pytest.raises(ConflictError), whole_file(target, replace=False) as stream:
        stream.write(b"ours")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert names(tmp_path) == ["out"]


def test_dangling_link_is_something(tmp_path: Path) -> None:
    """A symbolic link to nowhere counts as existing."""
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConflictError), whole_file(tmp_path / "out", replace=False):
        pass


def test_folder_as_output_is_wrong_usage(tmp_path: Path) -> None:
    """A folder cannot be written as a file, with or without ``replace``."""
    with pytest.raises(UsageError, match="folder"), whole_file(tmp_path, replace=True):
        pass


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """A missing parent folder is not made, it is named."""
    target = tmp_path / "gone" / "out"
    with pytest.raises(NotFoundError, match="gone"), whole_file(target, replace=False):
        pass
    assert names(tmp_path) == []


def test_file_as_folder_is_wrong_usage(tmp_path: Path) -> None:
    """A path below a regular file is explained, not shown as a traceback."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError), whole_file(tmp_path / "file" / "out", replace=False):
        pass


def test_disk_full_while_writing(tmp_path: Path) -> None:
    """A full disk is a ResourceError, and the temporary file is gone."""
    target = tmp_path / "out"
    full = pytest.raises(ResourceError, match="no space")
    with full, whole_file(target, replace=False) as stream:
        stream.write(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        (errno.ENOSPC, ResourceError),
        (errno.EDQUOT, ResourceError),
        (errno.EFBIG, ResourceError),
        (errno.ENOENT, NotFoundError),
        (errno.EACCES, UsageError),
        (errno.EPERM, UsageError),
        (errno.EISDIR, UsageError),
        (errno.ENOTDIR, UsageError),
    ],
)
def test_system_errors_become_typed(number: int, wanted: type[Exception]) -> None:
    """Each expected failure of the file system has its typed error that names the path."""
    explained = explain_os_error(OSError(number, os.strerror(number)), Path("some/file"))
    assert type(explained) is wanted
    assert "some/file" in str(explained)


def test_unexpected_system_errors_stay() -> None:
    """An I/O error of a dying disk is no case of ours and stays what it is."""
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    assert explain_os_error(error, Path("x")) is error


def test_long_names_fit(tmp_path: Path) -> None:
    """A name near the limit of the file system still gets its temporary name."""
    target = tmp_path / ("n" * 250)
    with whole_file(target, replace=False) as stream:
        stream.write(b"x")
    assert target.read_bytes() == b"x"


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced and renamed, in order."""
    done: list[str] = []

    def record(name: str, act: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*arguments: object) -> object:
            done.append(name)
            return act(*arguments)

        return wrapped

    monkeypatch.setattr(os, "fsync", record("fsync", os.fsync))
    monkeypatch.setattr(Path, "replace", record("rename", Path.replace))
    return done


def test_rename_is_between_two_syncs(tmp_path: Path, syncs: list[str]) -> None:
    """The bytes are durable before the name is, and the name before success is reported."""
    with whole_file(tmp_path / "out", replace=False) as stream:
        stream.write(b"x")
    assert syncs == ["fsync", "rename", "fsync"]


def test_a_folder_in_place_of_a_file_is_named_so() -> None:
    """A folder where a file is needed is said to be one, as wrong usage."""
    error = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    explained = explain_os_error(error, Path("some/folder"))
    assert isinstance(explained, UsageError)
    assert str(explained) == "some/folder is a folder; a file is needed here"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_interruption_leaves_no_folder(tmp_path: Path, error: type[BaseException]) -> None:
    """Ctrl-C between two files of a folder leaves none of them."""
    with pytest.raises(error), whole_folder(tmp_path / "out", replace=False) as partial:
        (partial / "model.onnx").write_bytes(b"x")
        raise error
    assert names(tmp_path) == []


def test_interrupted_replacement_keeps_what_was_there(tmp_path: Path) -> None:
    """A replacement that fails leaves the folder that was to be replaced."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"before")
    with pytest.raises(ValueError), whole_folder(folder, replace=True) as partial:
        (partial / "model.onnx").write_bytes(b"after")
        raise ValueError
    assert (folder / "model.onnx").read_bytes() == b"before"
    assert names(tmp_path) == ["out"]


def test_failed_rename_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the new folder cannot take the name, the old one has it again."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"before")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise PermissionError(13, "no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(UsageError, match="permission"), whole_folder(folder, replace=True):
        pass
    assert (folder / "model.onnx").read_bytes() == b"before"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("make", ["whole_file", "whole_folder"])
def test_what_is_half_made_goes_when_the_process_ends(tmp_path: Path, make: str) -> None:
    """Where an interrupt came before the block that cleans up, the end of the process does."""
    script = (
        "import sys; from pathlib import Path; import edge_sdk.base as base\n"
        f"making = base.{make}(Path('out'), replace=False)\n"
        "made = making.__enter__()\n"
        "print(len(list(Path().iterdir())))\n"
        "sys.making = making  # nobody closes it\n"
        "sys.exit(130)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, check=False
    )
    assert (ended.returncode, ended.stdout) == (130, b"1\n")
    assert names(tmp_path) == []
