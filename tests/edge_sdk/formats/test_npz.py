"""NPZ files that somebody else made: plain arrays come back, all else is a typed error."""

import errno
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.base import FormatError, NotFoundError, UsageError
from edge_sdk.formats import read_npz


def archive_of(folder: Path, member: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    path = folder / "a.npz"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.npy", member)
    return path


def member_of(kind: str, shape: str) -> bytes:
    header = f"{{'descr':{kind},'fortran_order':False,'shape':{shape}}}\n".encode()
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header


def saved(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_arrays_come_back(tmp_path: Path) -> None:
    """What NumPy saves, compressed or not, is read again."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", a=array)
        assert read_npz(tmp_path / "a.npz")["a"].tolist() == array.tolist()


@pytest.mark.parametrize(
    "member",
    [
        member_of("'<f4'", f"({1 << 60},)"),
        member_of("',,'", "(1,)"),
        member_of("'<f4'", "-" * 9000 + "1"),
        member_of("'<f4'", "(1,), }x':("),
        member_of("'O'", "(1,)"),
        member_of("'<f4'", "(5,)"),
    ],
    ids=[
        "larger than any memory",
        "no type",
        "nested too deep",
        "no Python",
        "objects",
        "truncated",
    ],
)
def test_a_hostile_array_is_a_format_error(tmp_path: Path, member: bytes) -> None:
    """Headers that NumPy answers with errors of many kinds are FormatErrors."""
    with pytest.raises(FormatError, match="not an NPZ file of plain arrays"):
        read_npz(archive_of(tmp_path, member))


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_within_compressed_data_is_a_format_error(tmp_path: Path, compression: int) -> None:
    """Each way to compress has its own error for damage; all are FormatErrors, but for bytes
    that say nothing about the array."""
    path = archive_of(tmp_path, saved(np.arange(1000)), compression)
    data = path.read_bytes()
    refused = 0
    for at in range(35, 100):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            assert read_npz(path)["a"].tolist() == list(range(1000))
        except FormatError:
            refused += 1
    assert refused > 50


def test_a_directory_that_points_before_the_start_is_a_format_error(tmp_path: Path) -> None:
    """A seek that the system refuses is damage of the file, not an OSError."""
    data = archive_of(tmp_path, saved(np.arange(3))).read_bytes()
    end = data.rindex(b"PK\x05\x06")
    offset = int.from_bytes(data[end + 16 : end + 20], "little") + 1000
    path = tmp_path / "moved.npz"
    path.write_bytes(data[: end + 16] + offset.to_bytes(4, "little") + data[end + 20 :])
    with pytest.raises(FormatError):
        read_npz(path)


def test_what_is_no_archive_is_a_typed_error(tmp_path: Path) -> None:
    """A file that is missing, a folder, a pipe that nobody writes to, text: each has its error."""
    (tmp_path / "text").write_bytes(b"no archive")
    os.mkfifo(tmp_path / "pipe")
    for name, error, words in (
        ("gone", NotFoundError, "gone"),
        ("pipe", UsageError, "not a regular file"),
        (".", UsageError, "not a regular file"),
        ("text", FormatError, "not an NPZ file"),
    ):
        with pytest.raises(error, match=words):
            read_npz(tmp_path / name)


def test_a_member_that_is_no_array_is_a_format_error(tmp_path: Path) -> None:
    """NumPy hands out other members as bytes: they are no arrays."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", saved(np.arange(3)))
        archive.writestr("note.txt", "no array")
    with pytest.raises(FormatError, match=r"holds 'note.txt', which is no array"):
        read_npz(path)


def test_a_disk_that_fails_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system has a number, and stays what it is."""
    path = archive_of(tmp_path, saved(np.arange(3)))

    def fail(*_given: object, **_options: object) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(np, "load", fail)
    with pytest.raises(OSError, match="the disk is broken"):
        read_npz(path)
