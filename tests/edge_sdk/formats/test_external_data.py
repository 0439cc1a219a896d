"""Files beside a model: found, and never outside of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_sdk.formats.external_data import MissingFileError, UnsafePathError, locate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "model"
    (inside / "deep").mkdir(parents=True)
    (inside / "weights").write_bytes(bytes(10))
    (inside / "deep" / "weights").write_bytes(bytes(20))
    (tmp_path / "secret").write_bytes(bytes(30))
    return inside


def test_files_in_the_folder_are_found(folder: Path) -> None:
    """Beside the model or in a folder below; a leading ./ means nothing."""
    assert locate(folder, "weights") == ("weights", 10)
    assert locate(folder, "./weights") == ("weights", 10)
    assert locate(folder, "deep/weights") == ("deep/weights", 20)


@pytest.mark.parametrize(
    "location",
    [
        "../secret",
        "deep/../../secret",
        "deep/../weights",
        "/etc/passwd",
        "././weights",
        "C:\\secret",
        "C:weights",
        "..\\secret",
        "",
        ".",
        "deep/",
        "weights\0",
        "*/_ORT_MEM_ADDR_/*",
        "x" * 300,
        "\ud800",
    ],
)
def test_paths_that_are_not_plain_are_refused(folder: Path, location: str) -> None:
    """Parent, absolute, drive, backslash, empty, control characters, the runtime's memory."""
    with pytest.raises(UnsafePathError):
        locate(folder, location)


def test_the_runtimes_memory_is_refused_even_where_such_a_file_is(folder: Path) -> None:
    """The location that onnxruntime takes for an address does not become a file by being one."""
    (folder / "*" / "_ORT_MEM_ADDR_").mkdir(parents=True)
    (folder / "*" / "_ORT_MEM_ADDR_" / "*").write_bytes(bytes(8))
    with pytest.raises(UnsafePathError, match="memory"):
        locate(folder, "*/_ORT_MEM_ADDR_/*")


def test_symbolic_links_are_refused_anywhere_on_the_way(folder: Path) -> None:
    """Also a link to a file inside the folder: what it names can change afterwards."""
    (folder / "out").symlink_to(folder.parent / "secret")
    (folder / "in").symlink_to(folder / "weights")
    (folder / "way").symlink_to(folder.parent)
    (folder / "dangling").symlink_to(folder / "nothing")
    for location in ("out", "in", "way/secret", "dangling"):
        with pytest.raises(UnsafePathError, match="symbolic link"):
            locate(folder, location)


def test_folders_and_files_are_not_taken_for_each_other(folder: Path) -> None:
    """A folder holds no tensors, a file holds no files."""
    for location in ("deep", "weights/more"):
        with pytest.raises(UnsafePathError, match="not a plain file or folder"):
            locate(folder, location)


def test_a_file_that_is_not_there_is_told_apart(folder: Path) -> None:
    """Missing is another error than unsafe: some formats allow it."""
    for location in ("nothing", "nowhere/nothing"):
        with pytest.raises(MissingFileError, match=location):
            locate(folder, location)


def test_what_cannot_be_looked_up_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that may not be read is no reason to believe what is in it."""

    def forbidden(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "lstat", forbidden)
    with pytest.raises(UnsafePathError, match="Permission denied"):
        locate(folder, "weights")
