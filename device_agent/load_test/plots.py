"""Line charts as SVG text: axes, a grid, lines, and words where the pointer rests.

Colours are classes of the page's style sheet, so that one picture fits light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 760, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 10, 34
COLOURS = 8  # classes c0 to c7

Points = Sequence[tuple[float, "float | None"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``points``: (x, y); None for y breaks the line. ``dotted``: points without a line."""

    name: str
    points: Points
    colour: int = 0
    dotted: bool = False
    dashed: bool = False
    stepped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """``ticks``: (value, text). On a logarithmic axis values are positive."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool = False

    def share(self, value: float) -> float:
        """Where along the axis, 0 to 1."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log10(max(one, 1e-9)) for one in (value, low, high))
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5


def linear_axis(values: Sequence[float], *, unit: str = "") -> Axis:
    """From 0 to a round number above the largest."""
    step, high = _steps(max([*values, 0.0]) or 1.0)
    count = round(high / step)
    return Axis(
        low=0.0,
        high=high,
        ticks=[(number * step, short(number * step) + unit) for number in range(count + 1)],
    )


def log_axis(values: Sequence[float], *, unit: str = "") -> Axis:
    """Round numbers around the values; 1, 2 and 5 of each decade where there are few."""
    found = [one for one in values if one > 0] or [1.0]
    low, high = min(found), max(found)
    few = math.log10(high / low) < 2.2
    steps = (1, 2, 5) if few else (1,)
    begin, end = math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1
    candidates = [step * 10.0**power for power in range(begin, end + 1) for step in steps]
    below = max(one for one in candidates if one <= low * 1.0001)
    above = min((one for one in candidates if one >= high / 1.0001), default=candidates[-1])
    if above <= below:
        above = min(one for one in candidates if one > below)
    ticks = [(one, short(one) + unit) for one in candidates if below <= one <= above]
    return Axis(low=below, high=above, ticks=ticks, log=True)


def chart(
    lines: Sequence[Line],
    *,
    x: Axis,
    y: Axis,
    label: str,
    unit: str = "",
    marks: Sequence[tuple[float, str]] = (),
    height: int = HEIGHT,
) -> str:
    """``marks``: dashed level lines with their words, such as goals. ``label``: for readers."""
    inner_w, inner_h = WIDTH - _LEFT - _RIGHT, height - _TOP - _BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return (
            round(_LEFT + x.share(point[0]) * inner_w, 1),
            round(_TOP + (1 - y.share(point[1])) * inner_h, 1),
        )

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">',
        *_grid(x, y, inner_w, inner_h, height),
    ]
    for value, words in marks:
        if y.low <= value <= y.high:
            _, level = at((x.low, value))
            words_at = level - 4 if level > _TOP + 12 else level + 12
            parts.append(
                f'<path class="mark" d="M{_LEFT} {level}H{WIDTH - _RIGHT}"/>'
                f'<text class="mark-text" x="{WIDTH - _RIGHT - 4}" y="{words_at}" '
                f'text-anchor="end">{escape(words)}</text>'
            )
    for line in lines:
        placed = [
            None if value is None else (*at((where, value)), where, value)
            for where, value in line.points
        ]
        parts += _drawn(line, placed, unit)
    return "".join([*parts, "</svg>"])


def short(value: float) -> str:
    """A number in few characters: 0.05, 1.5, 20k."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{suffix}"
    return f"{value:.3g}"


def _steps(largest: float) -> tuple[float, float]:
    """A round step and the end of an axis of 3 to 6 of them."""
    power = 10.0 ** math.floor(math.log10(largest))
    for factor in (0.1, 0.2, 0.5, 1.0, 2.0):
        step = factor * power
        if largest / step <= 6:
            break
    return step, step * max(math.ceil(largest / step - 1e-9), 1)


def _grid(x: Axis, y: Axis, inner_w: int, inner_h: int, height: int) -> list[str]:
    parts = []
    for value, words in y.ticks:
        level = round(_TOP + (1 - y.share(value)) * inner_h, 1)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {level}H{WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 8}" y="{level + 4}" text-anchor="end">{escape(words)}</text>'
        )
    for value, words in x.ticks:
        where = round(_LEFT + x.share(value) * inner_w, 1)
        parts.append(
            f'<path class="grid" d="M{where} {_TOP}V{_TOP + inner_h}"/>'
            f'<text x="{where}" y="{height - 14}" text-anchor="middle">{escape(words)}</text>'
        )
    return parts


Placed = Sequence["tuple[float, float, float, float] | None"]


def _drawn(line: Line, placed: Placed, unit: str) -> list[str]:
    path, pen_down = "", False
    for point in placed:
        if point is None:
            pen_down = False
            continue
        px, py = point[0], point[1]
        if not pen_down:
            path += f"M{px} {py}"
        elif line.stepped:
            path += f"H{px}V{py}"
        else:
            path += f"L{px} {py}"
        pen_down = True
    parts = []
    if path and not line.dotted:
        kind = "line dashed" if line.dashed else "line"
        parts.append(f'<path class="{kind} c{line.colour % COLOURS}" d="{path}"/>')
    radius, kind = (2, "dot") if line.dotted else (5, "hover")
    for point in placed:
        if point is not None:
            words = escape(f"{line.name}: {short(point[3])}{unit} at {short(point[2])}")
            parts.append(
                f'<circle class="{kind} c{line.colour % COLOURS}" cx="{point[0]}" '
                f'cy="{point[1]}" r="{radius}"><title>{words}</title></circle>'
            )
    return parts
