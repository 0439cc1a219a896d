"""Strided ranges: any part of them is what an array of those strides holds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import DeltaError, Digest
from edge_sdk.delta import FileRef, strides
from edge_sdk.delta.strides import (
    ReadSource,
    SourceRange,
    parse_range,
    put_range,
    read_sequence,
)
from edge_sdk.delta.varint import Cursor


def reader(*files: bytes, sizes: list[int] | None = None) -> ReadSource:
    """Answers only what lies within a file, and notes how much was asked for at once."""

    def read(file: int, offset: int, length: int) -> bytes:
        assert offset >= 0 and length > 0 and offset + length <= len(files[file])
        if sizes is not None:
            sizes.append(length)
        return files[file][offset : offset + length]

    return read


def transposed(array: np.ndarray, order: tuple[int, ...], width: int, start: int) -> SourceRange:
    """The array's axes in another order; its last axis is the bytes of an item."""
    dimensions = tuple((array.shape[axis], array.strides[axis]) for axis in order)
    return SourceRange(file=0, offset=start, length=width, dimensions=dimensions)


@given(st.data())
def test_every_part_of_a_range_is_what_the_array_holds(data: st.DataObject) -> None:
    """Permuted and reversed axes, items of any width, every beginning and end."""
    counts = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    width = data.draw(st.sampled_from([1, 2, 3, 4, 8, 12]))
    content = np.random.default_rng(1).integers(0, 256, (*counts, width), np.uint8)
    order = data.draw(st.permutations(range(len(counts))))
    flipped = data.draw(st.lists(st.booleans(), min_size=len(counts), max_size=len(counts)))
    view = content.transpose(*order, len(counts))
    offset, dimensions = 0, []
    for axis, flip in zip(range(len(counts)), flipped, strict=True):
        count, stride = view.shape[axis], content.strides[order[axis]]
        if flip:
            view = np.flip(view, axis)
            offset, stride = offset + (count - 1) * stride, -stride
        dimensions.append((count, stride))
    one = SourceRange(file=0, offset=offset, length=width, dimensions=tuple(dimensions))
    wanted = view.tobytes()
    assert one.extent == (0, content.nbytes)
    start = data.draw(st.integers(0, len(wanted) - 1))
    end = data.draw(st.integers(start + 1, len(wanted)))
    assert one.read(start, end - start, reader(content.tobytes())) == wanted[start:end]


@given(st.data())
def test_any_strides_mean_what_they_say(data: st.DataObject) -> None:
    """Overlapping, reversed and repeated items, and strides that are never used."""
    length = data.draw(st.integers(1, 9))
    dimensions, reach = [], 0
    for count in data.draw(st.lists(st.integers(1, 4), max_size=5)):
        far = st.sampled_from([2**62 - 1, -(2**62)])
        near = st.integers(reach + 1, reach + 9).flatmap(lambda n: st.sampled_from([n, -n, 0]))
        stride = data.draw(far if count == 1 else near)
        reach += (count - 1) * abs(stride)
        dimensions.append((count, stride))
    dimensions = data.draw(st.permutations(dimensions))
    offset = sum(-min(0, (count - 1) * stride) for count, stride in dimensions)
    one = SourceRange(file=0, offset=offset, length=length, dimensions=tuple(dimensions))
    first, end = one.extent
    assert first == 0
    content = bytes(np.random.default_rng(length).integers(0, 256, end, np.uint8))
    starts = [offset]
    for count, stride in dimensions:
        starts = [start + index * stride for start in starts for index in range(count)]
    wanted = b"".join(content[start : start + length] for start in starts)
    assert one.total_bytes == len(wanted)
    body = put_range(one)
    files = (FileRef(path="a", size_bytes=end, digest=Digest(bytes(32))),)
    assert parse_range(Cursor(body, "a range"), files) == one
    start = data.draw(st.integers(0, len(wanted) - 1))
    stop = data.draw(st.integers(start + 1, len(wanted)))
    assert one.read(start, stop - start, reader(content)) == wanted[start:stop]


def test_a_range_of_more_bytes_than_any_file_is_read_in_part() -> None:
    """Items repeated 2**60 times take no memory for those that nobody asks for."""
    one = SourceRange(file=0, offset=0, length=2, dimensions=((2**30, 0), (2**30, 0)))
    assert one.total_bytes == 2**61
    assert one.read(2**40 + 1, 6, reader(b"ab")) == b"bababa"


@pytest.mark.parametrize("width", [1, 2, 4, 6])
def test_large_ranges_are_read_in_windows(width: int) -> None:
    """A transposed tensor larger than the window is read in pieces no larger than it."""
    content = np.random.default_rng(2).integers(0, 256, (900, 1100, width), np.uint8)
    sizes: list[int] = []
    one = transposed(content, (1, 0), width, 0)
    wanted = content.transpose(1, 0, 2).tobytes()
    length = min(1 << 20, len(wanted))
    for start in (0, len(wanted) - length, 12_345):
        length = min(length, len(wanted) - start)
        found = one.read(start, length, reader(content.tobytes(), sizes=sizes))
        assert found == wanted[start : start + length]
    assert max(sizes) <= 512 << 10


def test_items_far_apart_are_read_one_by_one() -> None:
    """Nothing is read between items that lie further apart than is read at once anyway."""
    content = np.zeros((50, 5000, 4), np.uint8)
    content[:, 7] = np.arange(50)[:, None]
    sizes: list[int] = []
    one = SourceRange(file=0, offset=28, length=4, dimensions=((50, 20_000),))
    assert one.read(0, 200, reader(content.tobytes(), sizes=sizes)) == content[:, 7].tobytes()
    assert sizes == [4] * 50


def test_blocks_far_apart_are_read_block_by_block() -> None:
    """Several outer dimensions beyond a window, the inner ones read together."""
    content = np.random.default_rng(3).integers(0, 256, 2_000_000, np.uint8)
    sizes: list[int] = []
    dimensions = ((3, 600_000), (2, 100_000), (40, 12), (2, 5))
    one = SourceRange(file=0, offset=1000, length=2, dimensions=dimensions)
    places = np.zeros(1, int) + 1000
    for count, stride in dimensions:
        places = (places[:, None] + np.arange(count) * stride).reshape(-1)
    wanted = content[places[:, None] + np.arange(2)].tobytes()
    assert one.read(0, len(wanted), reader(content.tobytes(), sizes=sizes)) == wanted
    assert sizes == [39 * 12 + 7] * 6


def test_rows_repeat_with_a_stride_of_nothing() -> None:
    """A stride of 0 gives the same bytes again."""
    one = SourceRange(file=0, offset=1, length=2, dimensions=((3, 0),))
    assert one.read(1, 4, reader(b"abcd")) == b"cbcb"


@pytest.mark.parametrize(
    "dimensions",
    [
        ((4, 1), (4, 3)),
        ((2, -4), (2, 4)),
        ((3, 1000), (70, 20), (2, 1380)),
        ((1000, 20_000), (1000, 19_999)),
    ],
)
def test_dimensions_do_not_run_into_each_other(dimensions: tuple[tuple[int, int], ...]) -> None:
    """Strides that do not reach over the dimensions inside are refused: gathering such runs
    takes a read for each, however near they lie."""
    body = put_range(SourceRange(file=0, offset=10, length=1, dimensions=dimensions))
    files = (FileRef(path="a", size_bytes=1 << 30, digest=Digest(bytes(32))),)
    with pytest.raises(DeltaError, match="run into each other"):
        parse_range(Cursor(body, "a range"), files)


def test_work_is_runs_or_what_lies_between_them() -> None:
    """A part counts its runs, or 16 KiB of the whole range each; without dimensions one."""
    far = SourceRange(file=0, offset=0, length=3, dimensions=((100, 40_000),))
    assert [far.work(0, 1), far.work(2, 2), far.work(0, 300)] == [1, 2, 100]
    near = SourceRange(file=0, offset=8000, length=3, dimensions=((1000, 20), (100, -80)))
    assert near.extent == (80, 27_983)
    assert [near.work(0, 3), near.work(1, 3), near.work(0, 300_000)] == [1, 2, 2]
    assert SourceRange(file=0, offset=0, length=1 << 40).work(5, 1 << 30) == 1


@settings(max_examples=200)
@given(st.data())
def test_reading_takes_no_more_than_its_work(data: st.DataObject) -> None:
    """Whatever the strides are: reads, and each 16 KiB that they bring, stay near the work."""
    length = data.draw(st.sampled_from([1, 2, 4, 100, 5000]))
    dimensions, reach = [], 0
    for count in data.draw(st.lists(st.sampled_from([1, 2, 7, 60, 900]), max_size=4)):
        gap = data.draw(st.sampled_from([1, 50, 4096, 16_000, 16_400, 100_000]))
        stride = data.draw(st.sampled_from([1, -1, 0])) * (reach + gap)
        reach += (count - 1) * abs(stride)
        dimensions.append((count, stride))
    dimensions = data.draw(st.permutations(dimensions))
    offset = sum(-min(0, (count - 1) * stride) for count, stride in dimensions)
    one = SourceRange(file=0, offset=offset, length=length, dimensions=tuple(dimensions))
    start = data.draw(st.integers(0, one.total_bytes - 1))
    wanted = min(data.draw(st.sampled_from([1, 900, 40_000])), one.total_bytes - start)
    sizes: list[int] = []

    def read(_file: int, at: int, wanted: int) -> bytes:
        sizes.append(wanted)
        return bytes(wanted)

    assert one.read(start, wanted, read) == bytes(wanted)
    brought = (sum(sizes) - wanted) // strides.SKIPPED_BYTES_MAX
    boxes = 2 * len(dimensions) + 1
    assert len(sizes) + brought <= boxes * (one.work(start, wanted) + 1)


def test_items_may_overlap_and_be_longer_than_their_stride() -> None:
    """A window over the source: each item begins within the one before."""
    one = SourceRange(file=0, offset=0, length=3, dimensions=((4, 1),))
    assert one.read(0, 12, reader(b"abcdef")) == b"abcbcdcdedef"


def test_a_source_that_became_shorter_is_an_error_and_no_wild_read() -> None:
    """What answers with fewer bytes than asked for is a DeltaError."""
    one = SourceRange(file=0, offset=0, length=2, dimensions=((4, 4),))
    with pytest.raises(DeltaError, match="a source ends"):
        one.read(0, 8, lambda _file, _offset, length: bytes(length - 1))


def test_ranges_of_several_kinds_follow_each_other() -> None:
    """Plain and strided ranges make one sequence; past its end there is nothing."""
    ranges = (
        SourceRange(file=0, offset=1, length=3),
        SourceRange(file=1, offset=4, length=1, dimensions=((3, -2),)),
    )
    read = reader(b"abcdef", b"uvwxyz")
    for start in range(6):
        for end in range(start + 1, 7):
            assert read_sequence(ranges, start, end - start, read) == b"bcdywu"[start:end]
    with pytest.raises(DeltaError, match="more of a prediction"):
        read_sequence(ranges, 3, 4, read)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_boxes_tile_what_they_are_cut_from(counts: list[int], data: st.DataObject) -> None:
    """Cut into boxes, a range of items comes back in order, none twice, and few boxes do."""
    total = math.prod(counts)
    start = data.draw(st.integers(0, total))
    end = data.draw(st.integers(start, total))
    places = np.arange(total).reshape(counts)
    boxes = list(strides._boxes(start, end, counts))
    cut = [
        places[tuple(slice(i, i + n) for i, n in zip(first, box, strict=True))].reshape(-1)
        for first, box in boxes
    ]
    assert np.concatenate([*cut, []]).tolist() == list(range(start, end))
    assert len(boxes) < 2 * len(counts)
