"""Places in a slot."""

from __future__ import annotations

import pytest

from edge_sdk.fastlane import ALIGNMENT_BYTES, aligned


@pytest.mark.parametrize(("size", "end"), [(0, 0), (1, 64), (64, 64), (65, 128)])
def test_aligned_is_the_next_multiple(size: int, end: int) -> None:
    """Rounded up to the alignment, and left alone on it."""
    assert aligned(size) == end
    assert ALIGNMENT_BYTES == 64
