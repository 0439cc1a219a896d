"""What was measured once: recorded with its versions and the day."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.rows import row
from benchmarks.runtime import peers


def test_the_record_becomes_rows_that_say_when(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A row of an earlier day never passes for one of this run, and has no target."""
    one = row("runtime.once.x.p50", "X 1.0, p50", [1.0, 2.0, 3.0], "us", "<=")
    record = tmp_path / "once.json"
    record.write_text(json.dumps({"measured": "2026-11-22", "rows": [asdict(one)]}))
    monkeypatch.setattr(peers, "RECORD", record)
    (read,) = peers.recorded()
    assert (read.id, read.value, read.target) == (one.id, 2.0, None)
    assert read.what == "X 1.0, p50 (once, 2026-11-22)"


def test_without_a_record_there_are_no_rows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody has to have the peers."""
    monkeypatch.setattr(peers, "RECORD", tmp_path / "none.json")
    assert peers.recorded() == []


def test_the_committed_record_names_peers_with_their_versions() -> None:
    """MLServer and LitServe, each beside ours in the same run."""
    whats = " ".join(one.what for one in peers.recorded())
    assert "MLServer 1.7.1" in whats
    assert "LitServe 0.2.19" in whats
    assert "fast lane" in whats
