"""The runner: what was measured is kept, and time that is over is respected."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.delta import bench
from benchmarks.delta.bench import Results, Run
from benchmarks.delta.pairs import Pair
from benchmarks.delta.peers import PeerRoom
from benchmarks.rows import Row, anchor, row


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(bench, "_WORK", tmp_path / "work")
    return Run(5, PeerRoom(tmp_path / "absent"), Results(tmp_path / "work" / "engine.json"))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    for name in ("old.bin", "new.bin"):
        (tmp_path / name).write_bytes(name.encode() * 5000)
    return Pair(id="made", row="mixed", old=tmp_path / "old.bin", new=tmp_path / "new.bin")


def test_rows_are_made_once(tmp_path: Path) -> None:
    """A second run with the same engine takes them from the disk, samples and anchor too."""
    made = row("a", "b", [1.0, 3.0], "s", "<=", target=2.0, anchor=anchor("zstd", "1", [4.0]))
    calls = []

    def work() -> list[Row]:
        calls.append(1)
        return [made]

    first = Results(tmp_path / "kept.json")
    assert first.rows("speed", work) == [made]
    first.put("other", 1)  # writes what is held again
    assert Results(tmp_path / "kept.json").rows("speed", work) == [made]
    assert calls == [1]


def test_a_pair_is_measured_once_and_its_peers_adopted(job: Run, pair: Pair) -> None:
    """Its figures stay; sizes that came with the list are the peers'."""
    listed = pair.new.parent / "pairs.json"
    (pair.new.parent / "sizes.json").write_text(
        json.dumps({"pairs": [{"id": "made", "zstd19_patch_from": 99}]})
    )
    job.adopt([pair], listed)
    job.measure_ours(pair)
    job.measure_peers(pair, anew=False)
    one = job.measured(pair)
    assert one.ours is not None
    assert one.smallest(("zstd",)) == ("zstd", 99)
    before = dict(one.ours)
    job.measure_ours(pair)
    assert job.measured(pair).ours == before


def test_no_time_means_no_figure(tmp_path: Path, pair: Pair) -> None:
    """What is not measured is absent, not zero."""
    late = Run(-1, PeerRoom(tmp_path / "absent"), Results(tmp_path / "engine.json"))
    late.measure_ours(pair)
    assert late.measured(pair).ours is None
    assert late.rows("speed", 10, lambda: [row("a", "b", [1], "s", "<=")]) == []


def test_help_names_an_example() -> None:
    """Whoever asks learns how pairs are given."""
    shown = CliRunner().invoke(bench.cli, ["--help"])
    assert "Example: python -m benchmarks.delta.bench --pairs" in shown.output
