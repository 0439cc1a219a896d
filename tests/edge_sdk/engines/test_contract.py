"""The engine contract's own rules."""

from __future__ import annotations

import pytest

from edge_sdk.engines.contract import shape_fits


@pytest.mark.parametrize(
    ("wanted", "got", "fits"),
    [
        ((-1, 4), (9, 4), True),
        ((-1, 4), (0, 4), True),
        ((-1, 4), (9, 5), False),
        ((-1, 4), (4,), False),
        ((), (), True),
    ],
)
def test_a_dynamic_dimension_takes_any_size(
    wanted: tuple[int, ...], got: tuple[int, ...], fits: bool
) -> None:
    """-1 fits every size, other sizes only themselves, and the number of dimensions counts."""
    assert shape_fits(wanted, got) is fits
