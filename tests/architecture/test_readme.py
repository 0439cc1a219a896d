"""The README's figures are the measured ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import readme
from tests.support.source_tree import ROOT

ROW = {
    "id": "rss", "what": "memory of applying", "value": 41.25, "unit": "MiB", "direction": "<=",
    "target": 64, "met": True, "samples": [41.25], "anchor": None,
}  # fmt: skip
MACHINE = {"cpu": "Some CPU", "cores": 2, "memory_bytes": 8 << 30, "python": "3.11.2", "os": "L"}
DEMO = {
    "whole_bytes": 5_000_000, "delta_bytes": 1_000_000, "accuracy": {"v1": 0.91, "v2": 0.97},
    "served": 12345, "failed": 0, "v3": "failed", "v4": "rolled_back",
}  # fmt: skip


def test_readme_is_filled_from_the_committed_figures() -> None:
    """Filling the README from docs/figures changes nothing (``make readme`` does it)."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert readme.fill(text, readme.read_figures()) == text


def test_met_follows_from_the_figures() -> None:
    """Whether a target is met can be computed again from each row, and is what it says."""
    for name, figures in readme.read_figures().items():
        for row in figures["document"].get("rows", []) if name != "demo" else []:
            value, target = row["value"], row["target"]
            if value is None or target is None:
                assert row["met"] is None
            else:
                assert row["met"] == (
                    value <= target if row["direction"] == "<=" else value >= target
                )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "FIGURES", tmp_path / "docs" / "figures")
    marks = [f"<!-- {name} -->\nstale text\n<!-- /{name} -->" for name in readme.NAMES]
    (tmp_path / "README.md").write_text("before\n" + "\nbetween\n".join(marks) + "\nafter\n")
    return tmp_path


def test_tables_come_from_the_build_folder(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured documents are copied, shown with machine and command; others are said to lack."""
    build = repository / "build"
    build.mkdir()
    (build / "demo.json").write_text(json.dumps(DEMO))
    rows = [ROW, {**ROW, "value": None, "met": None},
            {**ROW, "met": False, "value": 70, "anchor": {"name": "zstd", "value": 12000}}]  # fmt: skip
    bench = {"name": "bench", "commit": "c" * 40, "machine": MACHINE, "rows": rows}
    (build / "bench.json").write_text(json.dumps(bench))
    monkeypatch.setattr("sys.argv", ["readme", str(build)])
    readme.main()
    text = (repository / "README.md").read_text()
    assert "| the same as deltas, on the wire | 1.0 MB, 20% |" in text
    assert "| memory of applying | 41.2 MiB | <= 64 | met |  |" in text
    assert "| memory of applying | not measured | <= 64 |  |  |" in text
    assert "| **missed** | zstd: 12,000 |" in text
    assert "Some CPU, 2 cores, 8 GiB, Python 3.11.2, commit cccccccccccc" in text
    assert "Not measured yet: `make bench-delivery`." in text
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "stale text" not in text
    assert readme.fill(text, readme.read_figures()) == text


def test_bench_shows_targets_and_latency_only() -> None:
    """Rows without target stay in docs/figures, but for latency; bench-delivery shows all."""
    plain = {**ROW, "id": "speed.apply", "what": "applying", "target": None, "met": None}
    latency = {**plain, "id": "serving.latency.p50", "what": "one request"}
    document = {"commit": "c" * 40, "rows": [ROW, plain, latency]}
    figures = {"machine": MACHINE, "measured": "2026-01-02", "document": document}
    bench, delivery = readme.table("bench", figures), readme.table("bench-delivery", figures)
    assert "| memory of applying |" in bench
    assert "| one request |" in bench
    assert "| applying |" not in bench
    assert "| applying |" in delivery


def test_readme_without_marks_is_refused(repository: Path) -> None:
    """A README that lost a mark is not filled in part."""
    with pytest.raises(SystemExit, match="demo"):
        readme.fill("no marks", {})
