"""Files of an artifact: found and read without following links."""

import os
from pathlib import Path

import pytest

from edge_sdk.base import (
    CHUNK_BYTES,
    Digest,
    FormatError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from edge_sdk.delta import files
from edge_sdk.delta.files import open_beneath, open_one, open_tree, single_name
from tests.support.deltas import write_folder


def test_a_folder_is_all_its_files_by_path(tmp_path: Path) -> None:
    """Files come sorted by their paths, in folders of any depth, without empty folders."""
    write_folder(tmp_path, {"b": b"2", "a/z": b"1", "a-": b"0", "a/b/c/d": b""})
    (tmp_path / "nothing").mkdir()
    with open_tree(tmp_path) as found:
        assert [file.path for file in found] == ["a-", "a/b/c/d", "a/z", "b"]
        assert [file.size_bytes for file in found] == [1, 0, 1, 1]


def test_a_file_is_an_artifact_of_one(tmp_path: Path) -> None:
    """Its own name is its path, unless no artifact could hold such a name."""
    (tmp_path / "m.onnx").write_bytes(b"12345")
    with open_tree(tmp_path / "m.onnx") as (found,):
        assert (found.path, found.size_bytes) == ("m.onnx", 5)
        assert found.read(1, 3) == b"234"
        assert found.read(3, 10) == b"45"
        assert found.read(9, 10) == b""
    assert single_name(Path("c:x.onnx")) == "model"


def test_digests_are_those_of_the_chunks(tmp_path: Path) -> None:
    """One digest per MiB, the last chunk being shorter."""
    data = bytes(CHUNK_BYTES) + b"rest"
    (tmp_path / "f").write_bytes(data)
    with open_one(tmp_path / "f", "f") as found:
        assert found.chunk_digests() == (Digest.of(data[:CHUNK_BYTES]), Digest.of(b"rest"))


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A link to a file or to a folder, in the middle of a path or at its end, is refused."""
    write_folder(tmp_path, {"real/f": b"secret", "art/own": b"1"})
    (tmp_path / "art" / "link").symlink_to(tmp_path / "real" / "f")
    with pytest.raises(FormatError, match="link"), open_tree(tmp_path / "art"):
        pass
    with pytest.raises(FormatError, match="link"), open_beneath(tmp_path / "art", "link"):
        pass
    (tmp_path / "art" / "folder").symlink_to(tmp_path / "real")
    with pytest.raises(FormatError, match="link"), open_beneath(tmp_path / "art", "folder/f"):
        pass
    with pytest.raises(FormatError, match="plain relative"), open_beneath(tmp_path, "../f"):
        pass


def test_links_are_refused_where_the_system_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without O_NOFOLLOW and pread (other systems) links are refused and bytes are the same."""
    write_folder(tmp_path, {"a/f": b"0123456789"})
    (tmp_path / "a" / "l").symlink_to("f")
    monkeypatch.delattr(os, "O_NOFOLLOW")
    monkeypatch.delattr(os, "pread")
    with open_beneath(tmp_path, "a/f") as found:
        assert found.read(3, 4) == b"3456"
    with pytest.raises(FormatError, match="link"), open_beneath(tmp_path, "a/l"):
        pass


def test_special_files_are_refused(tmp_path: Path) -> None:
    """A pipe is no model, and opening it does not wait for a writer."""
    (tmp_path / "art").mkdir()
    os.mkfifo(tmp_path / "art" / "pipe")
    with pytest.raises(FormatError, match="regular"), open_tree(tmp_path / "art"):
        pass


def test_names_that_no_artifact_has_are_refused(tmp_path: Path) -> None:
    """Names that fall together or that a manifest could not hold are FormatErrors."""
    write_folder(tmp_path / "one", {"A": b"", "a": b""})
    with pytest.raises(FormatError, match="fall together"), open_tree(tmp_path / "one"):
        pass
    write_folder(tmp_path / "two", {"a\\b": b""})
    with pytest.raises(FormatError, match="plain relative"), open_tree(tmp_path / "two"):
        pass


def test_nothing_and_too_much_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such path, a folder without files, and more files than a delta may have."""
    with pytest.raises(NotFoundError), open_tree(tmp_path / "gone"):
        pass
    with pytest.raises(NotFoundError), open_beneath(tmp_path, "gone/f"):
        pass
    with pytest.raises(UsageError, match="0 files"), open_tree(tmp_path):
        pass
    write_folder(tmp_path, {"a": b"", "b": b""})
    monkeypatch.setattr(files, "FILES_MAX", 1)
    with pytest.raises(UsageError, match="2 files"), open_tree(tmp_path):
        pass


def test_a_short_read_is_not_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that answers with fewer bytes than asked for is asked again."""
    (tmp_path / "f").write_bytes(b"0123456789")
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda handle, count, at: real(handle, min(count, 3), at))
    with open_one(tmp_path / "f", "f") as found:
        assert found.read(1, 8) == b"12345678"
        assert found.read(5, 50) == b"56789"


def test_a_file_that_became_shorter_has_no_digests(tmp_path: Path) -> None:
    """What is gone is told, not left out; what was added behind the file is none of it."""
    path = tmp_path / "f"
    path.write_bytes(bytes(CHUNK_BYTES + 10))
    with open_tree(path) as (file,):
        before = file.chunk_digests()
        with path.open("ab") as stream:
            stream.write(b"more")
        assert file.chunk_digests() == before
        for length in (CHUNK_BYTES + 9, 5):
            os.truncate(path, length)
            with pytest.raises(UnavailableError, match="'f' changed while it was read"):
                file.chunk_digests(threads=2)
