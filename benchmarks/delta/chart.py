"""The chart of ``bench-delta``: each pair's delta as a share of the smallest peer's, as SVG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

_ROWS = {
    "bf16": "bf16 fine-tunes",
    "fp16": "fp16 fine-tunes",
    "fp32": "fp32 fine-tunes",
    "int8-dense": "INT8, dense",
    "int8-light": "INT8, light",
    "fine-tune": "published fine-tunes",
    "retrained": "published, retrained",
    "derived": "published, derived",
    "structural": "published, structure only",
    "mixed": "published, mixed",
    "other": "other",
}
_WIDTH, _LABEL, _BAR, _STEP, _HEAD = 900, 230, 480, 15, 34
_FULL = 1.2  # the share at the right end of the bars; longer ones are cut there
_OURS, _WORSE, _LINE = "#2f6f9f", "#b5542d", "#888888"

Row = Mapping[str, Any]


def svg(rows: Sequence[Row]) -> str:
    """The rows ``pair.KIND.ID`` of a document, by kind; a peer's delta is the line at 1."""
    kinds: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        prefix, _, rest = row["id"].partition(".")
        if prefix == "pair" and row["value"] is not None:
            kinds[rest.partition(".")[0]].append(row)
    shown = [kind for kind in _ROWS if kind in kinds]
    height = _HEAD + sum(_STEP * (len(kinds[kind]) + 2) for kind in shown) + _STEP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        _text(8, 16, "Delta, as a share of the smallest peer's (1 = as large)", "bold"),
    ]
    top = _HEAD
    for kind in shown:
        parts.append(_text(8, top + _STEP - 4, _ROWS[kind], "bold"))
        top += _STEP
        for row in sorted(kinds[kind], key=lambda row: row["value"]):
            parts += _bar(row, top)
            top += _STEP
        top += _STEP
    x = _LABEL + _BAR / _FULL
    parts.append(f'<path d="M{x:.1f} {_HEAD - 8}V{top}" stroke="{_LINE}" stroke-dasharray="3 3"/>')
    return "\n".join([*parts, "</svg>", ""])


def _bar(row: Row, top: int) -> Iterator[str]:
    share, peer = row["value"], row["anchor"]["name"]
    width = _BAR * min(share, _FULL) / _FULL
    identity = row["id"].split(".", 2)[2]
    fill = _OURS if share <= 1 else _WORSE
    yield _text(16, top + _STEP - 5, identity)
    yield f'<rect x="{_LABEL}" y="{top + 2}" width="{width:.1f}" height="10" fill="{fill}"/>'
    partial = ", not all ran" if "peers missing" in row["what"] else ""
    yield _text(_LABEL + _BAR + 8, top + _STEP - 5, f"{share:.3g} of {peer}{partial}")


def _text(x: int, y: int, text: str, weight: str = "normal") -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}">{escape(text)}</text>'
