"""Rows: their form, and when a target counts as met."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import rows

ROW_KEYS = {"id", "what", "value", "unit", "direction", "target", "met", "samples", "anchor"}


def test_a_document_has_the_form_of_the_design(tmp_path: Path) -> None:
    """build/<name>.json holds name, commit, machine and rows, each with exactly its fields."""
    anchor = rows.anchor("plain", "1", [4.0, 6.0, 5.0])
    one = rows.row("a", "something", [3.0, 1.0, 2.0], "s", "<=", target=2.5, anchor=anchor)
    rows.write_json(tmp_path / "build" / "x.json", rows.document("x", [one]))
    document = json.loads((tmp_path / "build" / "x.json").read_text())
    assert set(document) == {"name", "commit", "machine", "rows"}
    assert set(document["machine"]) == {"cpu", "cores", "memory_bytes", "python", "os"}
    (read,) = document["rows"]
    assert set(read) == ROW_KEYS
    assert (read["value"], read["met"], read["samples"]) == (2.0, True, [3.0, 1.0, 2.0])
    assert read["anchor"] == {
        "name": "plain",
        "version": "1",
        "value": 5.0,
        "samples": [4.0, 6.0, 5.0],
    }


@pytest.mark.parametrize(
    ("samples", "direction", "target", "met"),
    [
        ([2.0], "<=", 2.0, True),
        ([2.1], "<=", 2.0, False),
        ([4.0], ">=", 4.0, True),
        ([3.9], ">=", 4.0, False),
        ([], "<=", 2.0, None),
        ([2.0], "<=", None, None),
    ],
)
def test_met_needs_a_measurement_and_a_target(
    samples: list[float], direction: rows.Direction, target: float | None, met: bool | None
) -> None:
    """A bound holds at its edge; what was not measured is never met."""
    assert rows.row("r", "w", samples, "s", direction, target=target).met is met
