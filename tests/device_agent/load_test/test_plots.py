"""Charts as SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.load_test.plots import (
    HEIGHT,
    WIDTH,
    Axis,
    Line,
    chart,
    linear_axis,
    log_axis,
    short,
)

VALUES = st.lists(st.floats(1e-4, 1e6), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.booleans())
def test_everything_lies_in_the_picture(values: list[float], log: bool) -> None:
    """No point of a line or of the grid is outside of the view, and it is well-formed XML."""
    line = Line(name="a <b>", points=[(float(n), one) for n, one in enumerate(values)])
    y = log_axis(values) if log else linear_axis(values)
    picture = chart([line], x=Axis(low=0, high=30, ticks=[(0, "0")]), y=y, label='"quoted" & so')
    ElementTree.fromstring(picture)
    for px, py in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', picture):
        assert 0 <= float(px) <= WIDTH
        assert 0 <= float(py) <= HEIGHT


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_axes_hold_their_values_with_few_ticks(values: list[float]) -> None:
    """An axis begins and ends with a tick around all values, and has room for its words."""
    for axis in (log_axis(values), linear_axis(values)):
        assert axis.low <= min(values) * 1.001
        assert axis.high >= max(values) * 0.999
        assert (axis.ticks[0][0], axis.ticks[-1][0]) == pytest.approx((axis.low, axis.high))
        assert 2 <= len(axis.ticks) <= 13


def test_a_gap_breaks_the_line() -> None:
    """Where nothing was measured, nothing is drawn across."""
    points = [(0.0, 1.0), (1.0, None), (2.0, 1.0)]
    axis = Axis(low=0, high=2, ticks=[])
    picture = chart([Line(name="a", points=points)], x=axis, y=axis, label="a")
    path = re.search(r'<path class="line c0" d="([^"]+)"', picture)
    assert path is not None
    assert path[1].count("M") == 2
    assert "L" not in path[1]


@pytest.mark.parametrize(
    ("value", "text"), [(0.05, "0.05"), (1.5, "1.5"), (20_000, "20k"), (3.2e6, "3.2M"), (0, "0")]
)
def test_short_numbers(value: float, text: str) -> None:
    """Numbers of an axis have few characters."""
    assert short(value) == text
