"""Lists of what is not zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError
from edge_sdk.delta.gaps import gap_bytes_max, put_gaps, spread


@given(
    st.dictionaries(st.integers(0, 1999), st.integers(1, 65535), max_size=30), st.integers(0, 300)
)
def test_numbers_come_back(values: dict[int, int], beyond: int) -> None:
    """Any numbers at any distance, in no more gap bytes than the bound says."""
    count = max(values, default=-1) + 1 + beyond
    numbers = np.zeros(count, np.uint16)
    for position, value in values.items():
        numbers[position] = value
    gaps, listed = put_gaps(numbers)
    assert listed.tolist() == [values[position] for position in sorted(values)]
    assert len(gaps) <= gap_bytes_max(count, len(listed))
    assert np.array_equal(spread(gaps, listed, count), numbers)


@pytest.mark.parametrize(
    ("gaps", "count"), [([254], 255), ([255, 0], 256), ([255, 254], 510), ([255, 255, 0], 511)]
)
def test_long_gaps_have_one_spelling(gaps: list[int], count: int) -> None:
    """255 stands for 255 zeros more, and a gap ends with a byte below it."""
    numbers = np.zeros(count, np.uint8)
    numbers[-1] = 7
    found, listed = put_gaps(numbers)
    assert found.tolist() == gaps
    assert np.array_equal(spread(found, listed, count), numbers)


@pytest.mark.parametrize(
    ("gaps", "listed", "problem"),
    [
        ([0, 0], [1], "gaps for 2"),
        ([0], [1, 1], "gaps for 1"),
        ([0, 255], [1], "gaps for 1"),
        ([255], [], "gaps for 0"),
        ([9, 0], [1, 1], "behind"),
        ([10], [1], "behind"),
    ],
)
def test_other_lists_are_refused(gaps: list[int], listed: list[int], problem: str) -> None:
    """Too many or too few gaps, an open one at the end, and numbers behind the last."""
    with pytest.raises(DeltaError, match=problem):
        spread(np.array(gaps, np.uint8), np.array(listed, np.uint8), 10)
