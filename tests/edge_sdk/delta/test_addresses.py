"""Files as one sequence of bytes."""

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import chunk_count
from edge_sdk.delta.addresses import Addresses

SIZES = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@given(SIZES)
def test_every_byte_has_one_address(sizes: list[int]) -> None:
    """Through all files in their order, empty ones passed over; and back."""
    addresses = Addresses(sizes)
    places = [(file, offset) for file, size in enumerate(sizes) for offset in range(size)]
    assert [addresses.place(address) for address in range(addresses.end)] == places
    assert [addresses.of(*place) for place in places] == list(range(addresses.end))
    assert addresses.place(addresses.end)[0] == len(sizes)


@given(SIZES, st.data())
def test_a_range_is_cut_at_the_ends_of_files(sizes: list[int], data: st.DataObject) -> None:
    """Its parts follow each other, each within a file, and are all of it."""
    addresses = Addresses(sizes)
    first = data.draw(st.integers(0, addresses.end))
    length = data.draw(st.integers(0, addresses.end - first))
    bytes_of = [
        addresses.of(file, offset + at)
        for file, offset, count in addresses.parts(first, length)
        for at in range(count)
    ]
    assert bytes_of == list(range(first, first + length))
    assert all(
        0 < count <= sizes[file] - offset for file, offset, count in addresses.parts(first, length)
    )


def test_chunks_are_counted_by_file() -> None:
    """A file begins a chunk of its own, however short the last one of the file before it was."""
    mib = 1 << 20
    sizes = [mib + 1, 0, 5, 2 * mib]
    addresses = Addresses(sizes)
    begins = [0, mib, mib + 1, mib + 6, 2 * mib + 6]
    for address in {*begins, *(at + 1 for at in begins), *(at - 1 for at in begins[1:])}:
        assert addresses.chunks_before(address) == sum(begin < address for begin in begins)
    assert addresses.chunks_before(addresses.end) == sum(map(chunk_count, sizes)) == 5
