"""Given pairs: found by folder, their rows by list or by hash."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.delta.pairs import given_pairs


def test_rows_come_from_the_list_or_from_what_is_kept(tmp_path: Path) -> None:
    """A listed pair has its row; one that is not listed is known by its hash, or has none."""
    for name in ("listed", "kept", "new", "half"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "new.onnx").write_bytes(name.encode())
        if name != "half":
            (tmp_path / name / "old.onnx").write_bytes(b"old")
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps({"pairs": [{"id": "listed", "row": "derived"}]}))
    keys = {pair.id: pair.key for pair in given_pairs(tmp_path, None, {})}
    assert set(keys) == {"listed", "kept", "new"}
    assert len(set(keys.values())) == 3
    found = given_pairs(tmp_path, listed, {keys["kept"]: {"row": "retrained"}})
    assert {pair.id: pair.row for pair in found} == {
        "listed": "derived", "kept": "retrained", "new": ""}  # fmt: skip
    assert [pair.id for pair in found][-1] == "new"
    assert not any(pair.generated for pair in found)


def test_no_folder_means_no_pairs(tmp_path: Path) -> None:
    """A bench without given pairs goes on with its own."""
    assert given_pairs(tmp_path / "absent", None, {}) == []
