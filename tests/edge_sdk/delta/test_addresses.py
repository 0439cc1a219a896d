"""Files as one sequence of bytes, through which records go on and refer to each other."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import CHUNK_BYTES, DeltaError, chunk_count
from edge_sdk.delta.addresses import Addresses
from edge_sdk.delta.frames import Effort, Packer
from edge_sdk.delta.records import Place
from edge_sdk.delta.varint import varints
from tests.support.deltas import Crafted, Target, decoded, file_ref, place, prefix_of

COPY, LITERAL = 1, 2
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


def refused(delta: bytes, problem: str, source: bytes) -> None:
    with pytest.raises(DeltaError, match=problem):
        decoded(delta, [source])


def test_a_copy_or_patch_goes_on_over_files() -> None:
    """One record makes the end of a file, an empty one and another; nothing behind the last."""
    data = bytes(range(100))
    targets = [file_ref("a", data[:40]), file_ref("b", b""), file_ref("c", data[40:])]
    source = file_ref("s", data + data)

    def made(*copies: Place, **changes: object) -> Crafted:
        crafted = Crafted(targets=targets, sources=[source], folder=True, **changes)
        for one in copies:
            crafted.data(COPY, one, varints(0 if one.offset == 0 else 10))
        return crafted

    whole = made(place(100)).build()
    assert decoded(whole, [data + data]) == [data[:40], b"", data[40:]]
    parts = made(place(10), place(90, 10)).build()
    assert decoded(parts, [data + data]) == [data[:40], b"", data[40:]]
    for crafted, problem in (
        (made(place(101)), "past the end of the target"),
        (made(place(10), place(91, 10)), "past the end of the target"),
        (made(place(40), place(60, 40)), "where the one before"),
        (made(place(40), place(60, 0, 1)), "where the one before"),
        (made(place(40), place(60, 0, 3)), "where the one before"),
        (made(place(40), place(60, 1, 2)), "where the one before"),
    ):
        first = crafted.places[0]  # the index is as it should be
        rest = place(60, 0, 2) if first == place(40) else place(90, 10)
        crafted.places = [first, rest][: len(crafted.records)]
        refused(crafted.build(), problem, data + data)
    literals = Crafted(targets=targets, sources=[source], folder=True)
    literals.data(LITERAL, place(100), Packer().pack(data, Effort.QUICK))
    refused(literals.build(), "past the end of its file", data + data)


def test_a_resumed_decoder_reads_what_was_written_before_it() -> None:
    """From the second chunk on, the bytes of the first; never those of its own record."""
    data = bytes(range(256)) * 4096
    crafted = Crafted(targets=[file_ref("t", data * 2)], sources=[file_ref("s", data)])
    crafted = replace(crafted, repeats=True).data(COPY, place(CHUNK_BYTES), varints(0))
    delta = crafted.data(COPY, place(CHUNK_BYTES, CHUNK_BYTES), varints(CHUNK_BYTES)).build()
    assert decoded(delta, [data]) == [data * 2]
    target = Target([data], written=[data * 2])
    decoder, (span,) = target.resume(prefix_of(delta), 1)
    decoder.feed(delta[span.offset :])
    decoder.finish()
    assert target.files == [data * 2]
    for address, length, problem in (
        (CHUNK_BYTES + 1, CHUNK_BYTES, "may not read yet"),
        (2 * CHUNK_BYTES, CHUNK_BYTES, "may not read yet"),
        (3 * CHUNK_BYTES - 1, CHUNK_BYTES, "no source has"),
    ):
        wrong = Crafted(targets=[file_ref("t", data * 2)], sources=[file_ref("s", data)])
        wrong = replace(wrong, repeats=True).data(COPY, place(CHUNK_BYTES), varints(0))
        wrong.data(COPY, place(length, CHUNK_BYTES), varints(address))
        refused(wrong.build(), problem, data)
    unsaid = replace(crafted, repeats=False)
    refused(unsaid.build(), "may not read yet", data)
