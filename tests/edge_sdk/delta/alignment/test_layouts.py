"""Layouts: places and ranges of bytes say the same order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta.alignment.layouts import Layout, layouts, merged, row_major


@st.composite
def permuted(draw: st.DrawFn) -> tuple[np.ndarray, Layout, np.ndarray]:
    """Numbers of a source, a layout, and the numbers in that order."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    numbers = np.arange(np.prod(shape)).reshape(shape)
    strides = row_major(shape)
    layout = merged([(shape[axis], strides[axis]) for axis in order])
    return numbers.reshape(-1), layout, numbers.transpose(order).reshape(-1)


@given(permuted())
def test_places_and_bytes_are_those_of_the_permuted_array(
    case: tuple[np.ndarray, Layout, np.ndarray],
) -> None:
    """What NumPy's transpose gives, by number and by byte."""
    numbers, layout, wanted = case
    assert numbers[layout.source_places(np.arange(len(wanted)))].tolist() == wanted.tolist()
    content = b"head" + numbers.astype("<u4").tobytes()
    held = layout.source_range(7, 4, 4)
    found = held.read(0, held.total_bytes, lambda _file, at, length: content[at : at + length])
    assert held.file == 7
    assert found == wanted.astype("<u4").tobytes()


@given(permuted(), st.data())
def test_a_part_is_a_layout_of_its_own(
    case: tuple[np.ndarray, Layout, np.ndarray], data: st.DataObject
) -> None:
    """Some of the first dimension, with all of the others, or nothing."""
    numbers, layout, wanted = case
    first = data.draw(st.integers(0, len(wanted) - 1))
    count = data.draw(st.integers(1, len(wanted) - first))
    part = layout.part(first, count)
    if part is None:
        inner = len(wanted) // layout.dimensions[0][0]
        assert first % inner or count % inner
        return
    offset, inside = part
    places = offset + inside.source_places(np.arange(count))
    assert numbers[places].tolist() == wanted[first : first + count].tolist()


def test_every_order_of_kernels_is_tried_once() -> None:
    """The identity first; those of the target's shape too, where the source's has fewer axes."""
    found = list(layouts((8, 3, 5, 5), (8, 3, 5, 5)))
    assert found[0] == Layout(((600, 1),)) and found[0].is_identity
    assert len(found) == len(set(found))
    assert merged([(3, 25), (5, 5), (5, 1), (8, 75)]) in found
    flat = list(layouts((8, 75), (5, 5, 3, 8)))
    assert merged([(5, 5), (5, 1), (3, 25), (8, 75)]) in flat


def test_axes_of_one_and_too_many_axes_do_no_harm() -> None:
    """Scalars have the identity; more than five axes are not permuted."""
    (identity,) = layouts((), (1, 1))
    assert identity.is_identity
    assert len(list(layouts((2,) * 6, (2,) * 6))) == 1
