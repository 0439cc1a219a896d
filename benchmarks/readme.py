"""Fills the README's tables from measured figures: ``make readme``.

``build/<name>.json`` is copied to ``docs/figures/<name>.json`` with the day and the machine,
and the README's part between ``<!-- name -->`` and ``<!-- /name -->`` is written from that
copy, so that the two can be compared by a test.
"""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.delta import chart
from benchmarks.rows import machine
from edge_sdk.base.command import bytes_text

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
NAMES = ("demo", "bench-delivery", "bench", "bench-delta", "bench-runtime")
CHART = "bench-delta.svg"
_RUNTIME_SHOWN = ("runtime.stock.eight.throughput-over-triton",)  # besides rows with a target

Figures = Mapping[str, Any]


def collect(build: Path, name: str) -> None:
    """Copies the document of ``name`` from the build folder, if it was measured there."""
    source = build / f"{name}.json"
    if not source.is_file():
        return
    document = json.loads(source.read_text("utf-8"))
    measured = datetime.datetime.fromtimestamp(source.stat().st_mtime, datetime.UTC)
    figures = {
        "measured": measured.date().isoformat(),
        "machine": document.get("machine") or machine(),
        "document": document,
    }
    FIGURES.mkdir(parents=True, exist_ok=True)
    (FIGURES / f"{name}.json").write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
    if name == "bench-delta":
        (FIGURES / CHART).write_text(chart.svg(document["rows"]))


def fill(text: str, figures: Mapping[str, Figures]) -> str:
    """The README with each part between markers written again."""
    for name in NAMES:
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        part = f"{begin}\n{table(name, figures.get(name))}\n{end}"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        text, count = re.subn(pattern, lambda _, part=part: part, text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"the README needs {begin} and {end} once each")
    return text


def table(name: str, figures: Figures | None) -> str:
    if figures is None:
        return f"Not measured yet: `make {name}`."
    document = figures["document"]
    if name == "demo":
        lines = _demo_lines(document)
    else:
        lines = _row_lines([row for row in document["rows"] if _shown(name, row)])
    if name == "bench-delta":
        lines += ["", f"![Each pair's delta beside the smallest peer's](docs/figures/{CHART})"]
    return "\n".join([*lines, "", _where(name, figures)])


def _shown(name: str, row: Figures) -> bool:
    """Of the engine's many rows those with a target, how far from the limit, and latency."""
    if name not in {"bench", "bench-delta", "bench-runtime"} or row["target"] is not None:
        return True
    if name == "bench-runtime":
        return row["id"] in _RUNTIME_SHOWN or (
            row["id"].startswith("runtime.once.") and not row["id"].endswith(".cpu")
        )
    identity: str = row["id"]
    return identity.endswith(".bound") or identity.startswith(
        ("serving.latency", "speed.encode.large", "speed.apply.large")
    )


def _demo_lines(demo: Figures) -> list[str]:
    whole, delta = demo["whole_bytes"], demo["delta_bytes"]
    first, second = demo["accuracy"]["v1"], demo["accuracy"]["v2"]
    rows = [
        ("v1 to v2 on both devices, whole (compressed)", bytes_text(whole)),
        ("the same as deltas, on the wire", f"{bytes_text(delta)}, {delta / whole:.0%}"),
        ("accuracy of v1, of v2, through the agents", f"{first:.1%}, {second:.1%}"),
        ("requests served, failed, across all switches", f"{demo['served']:,}, {demo['failed']}"),
        ("v3, damaged after its golden sample was made", demo["v3"].replace("_", " ")),
        ("v4, right but at least four times slower", demo["v4"].replace("_", " ")),
    ]
    return ["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]


def _row_lines(rows: Sequence[Figures]) -> list[str]:
    lines = ["| what | value | target | | beside it |", "|---|---|---|---|---|"]
    for row in rows:
        target = "" if row["target"] is None else f"{row['direction']} {_text(row['target'])}"
        met = {True: "met", False: "**missed**", None: ""}[row["met"]]
        anchor = row["anchor"]
        beside = f"{anchor['name']}: {_text(anchor['value'])}" if anchor else ""
        value = (
            f"{_text(row['value'])} {row['unit']}" if row["value"] is not None else "not measured"
        )
        lines.append(f"| {row['what']} | {value} | {target} | {met} | {beside} |")
    return lines


def _text(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _where(name: str, figures: Figures) -> str:
    on = figures["machine"]
    commit = figures["document"].get("commit")
    memory = on["memory_bytes"] / 2**30
    return (
        f"`make {name}`, {figures['measured']}, {on['cpu']}, {on['cores']} cores, "
        f"{memory:.0f} GiB, Python {on['python']}{f', commit {commit[:12]}' if commit else ''}"
    )


def read_figures() -> dict[str, Figures]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in FIGURES.glob("*.json")}


def main() -> None:
    (build,) = (Path(argument) for argument in sys.argv[1:])
    for name in NAMES:
        collect(build, name)
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text("utf-8"), read_figures()), "utf-8")


if __name__ == "__main__":
    main()
