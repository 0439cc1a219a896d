"""The chart is well-formed and shows every measured pair."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

from benchmarks.delta import chart


def row(identity: str, value: float | None) -> dict[str, Any]:
    what = "peers missing: zstd" if value == 0.6 else ""
    anchor = {"name": "a<b"} if value else None
    return {"id": identity, "what": what, "value": value, "anchor": anchor}


def test_every_measured_pair_is_a_bar() -> None:
    """Sorted by share within its kind; worse than the peer is another colour, and cut."""
    rows = [
        row("pair.bf16.lm-1e-05-bf16", 0.7),
        row("pair.bf16.other", 0.6),
        row("pair.derived.some.name", 3.0),
        row("pair.mixed.absent", None),
        row("size.bf16.mean", 0.7),
    ]
    text = chart.svg(rows)
    root = ET.fromstring(text)
    texts = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text")]
    bars = [one for one in root.iter("{http://www.w3.org/2000/svg}rect") if one.get("y")]
    assert texts.index("other") < texts.index("lm-1e-05-bf16") < texts.index("some.name")
    assert "absent" not in texts
    assert "0.7 of a<b" in texts
    assert "0.6 of a<b, not all ran" in texts
    assert len(bars) == 3
    assert float(bars[2].get("width") or 0) == 480
    assert bars[2].get("fill") != bars[0].get("fill")
