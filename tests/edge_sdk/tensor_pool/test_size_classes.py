"""Size classes of the tensor pool."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.tensor_pool.size_classes import ALIGNMENT_BYTES, size_class


@given(st.integers(0, 1 << 40))
def test_a_class_holds_the_size_aligned_and_wastes_little(size: int) -> None:
    """A class is a multiple of 64, never smaller than the size, at most a quarter larger."""
    slab = size_class(size)
    assert slab >= size
    assert slab % ALIGNMENT_BYTES == 0
    assert slab - size <= max(ALIGNMENT_BYTES, size / 4 + 1)


@given(st.integers(0, 1 << 40))
def test_a_class_is_its_own_class(size: int) -> None:
    """A class is a fixed point, so slabs are found again."""
    assert size_class(size_class(size)) == size_class(size)


def test_nothing_still_has_an_address() -> None:
    """A tensor of no bytes gets the smallest slab."""
    assert size_class(0) == ALIGNMENT_BYTES
