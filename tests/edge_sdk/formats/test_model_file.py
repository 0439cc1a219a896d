"""Opening a model file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_sdk.base import NotFoundError, UsageError
from edge_sdk.formats.model_file import open_file


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    """The bytes are those of the file, and are let go afterwards."""
    path = tmp_path / "model"
    path.write_bytes(b"bytes of a model".ljust(9000))
    with open_file(path) as file:
        assert (file.data[:5], file.size_bytes) == (b"bytes", 9000)
        data = file.data
    with pytest.raises(ValueError, match="closed"):
        data[5000]


def test_an_empty_file_is_no_bytes(tmp_path: Path) -> None:
    """An empty file is one too."""
    (tmp_path / "model").touch()
    with open_file(tmp_path / "model") as file:
        assert (file.data[:], file.size_bytes) == (b"", 0)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    """A folder or a FIFO is wrong usage and never waited for; nothing there is not found."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(UsageError), open_file(path):
            pass
    with pytest.raises(NotFoundError), open_file(tmp_path / "missing"):
        pass


def test_damage_is_reported_with_file_and_offset(tmp_path: Path) -> None:
    """The error's message and facts name the file and the byte."""
    path = tmp_path / "model"
    path.write_bytes(b"model")
    with open_file(path) as file:
        error = file.damaged(3, "what is wrong", tensor="w")
    assert error.facts == {"file": str(path), "offset": 3, "tensor": "w"}
    assert error.message == f"{path}: byte 3: what is wrong"
