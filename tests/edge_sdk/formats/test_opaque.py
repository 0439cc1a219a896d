"""What no format knows."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.formats import open_model


def test_an_unknown_file_is_one_range(tmp_path: Path) -> None:
    """All of it is one nameless tensor of bytes, so that it can be updated like any other."""
    path = tmp_path / "labels.txt"
    path.write_bytes(b"cat\ndog\n")
    found = open_model(path)
    (whole,) = found.tensors
    assert (found.format, found.facts, found.external_files) == ("opaque", None, ())
    assert (whole.name, whole.dtype, whole.shape) == ("", "uint8", (8,))
    assert (whole.file, whole.offset, whole.length) == ("labels.txt", 0, 8)


def test_an_empty_file_has_no_range(tmp_path: Path) -> None:
    """Ranges are never empty."""
    (tmp_path / "nothing").touch()
    found = open_model(tmp_path / "nothing")
    assert (found.format, found.size_bytes, found.tensors) == ("opaque", 0, ())
