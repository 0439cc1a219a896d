"""Tables of FlatBuffers, every offset checked."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.base import FormatError
from edge_sdk.formats.flatbuffer import VISITS_MAX, FlatBuffer
from edge_sdk.formats.model_file import ModelFile


def flat(data: bytes) -> FlatBuffer:
    return FlatBuffer(ModelFile(path=Path("model"), data=data, size_bytes=len(data)))


# A table at 16 with fields: u32 5, text "abc", integers 1 2, no field, itself; layout at 4.
GOOD = (
    struct.pack("<I", 18)
    + struct.pack("<7H", 14, 20, 4, 8, 12, 0, 16)
    + struct.pack("<iI", 14, 5)
    + struct.pack("<III", 12, 16, 4)
    + struct.pack("<I3s1x", 3, b"abc")
    + struct.pack("<Iii", 2, 1, -2)
)


def test_fields_are_read_where_the_layout_says() -> None:
    """Numbers, strings, vectors and tables, present or absent."""
    buffer = flat(GOOD)
    table = buffer.root()
    assert buffer.u32(table, 0) == 5
    assert buffer.text(table, 1) == "abc"
    assert buffer.integers(table, 2) == (1, -2)
    assert (buffer.u32(table, 3), buffer.text(table, 9), buffer.integers(table, 3)) == (0, "", None)
    assert buffer.child(table, 3) is None
    assert buffer.vector(table, 2, 4) == (len(GOOD) - 8, 2)
    assert buffer.tables(table, 3).count == 0


def test_items_beyond_a_vector_do_not_exist() -> None:
    """A number below zero or from the count on is an IndexError, not another item."""
    buffer = flat(GOOD)
    tables = buffer.tables(buffer.root(), 2)
    for number in (-1, 2):
        with pytest.raises(IndexError):
            tables[number]


@pytest.mark.parametrize(
    ("position", "value", "what"),
    [
        (0, struct.pack("<I", 0), "offset of nothing"),
        (0, struct.pack("<I", 10_000), "out of the file"),
        (0, struct.pack("<I", len(GOOD) - 2), "out of the file"),
        (18, struct.pack("<i", 1000), "out of the file"),
        (18, struct.pack("<i", -1000), "out of the file"),
        (4, struct.pack("<H", 3), "not the layout"),
        (4, struct.pack("<H", 2), "not the layout"),
        (4, struct.pack("<H", 60_000), "out of the file"),
        (6, struct.pack("<H", 3), "not the layout"),
        (6, struct.pack("<H", 60_000), "out of the file"),
        (10, struct.pack("<H", 3), "outside of it"),
        (10, struct.pack("<H", 18), "outside of it"),
        (26, struct.pack("<I", 1 << 31), "out of the file"),
        (26, struct.pack("<I", 0), "offset of nothing"),
        (38, struct.pack("<I", 1 << 31), "out of the file"),
    ],
)
def test_hostile_offsets_are_refused(position: int, value: bytes, what: str) -> None:
    """Root, layout, fields, vectors and their counts: none leads out of the file."""
    data = GOOD[:position] + value + GOOD[position + len(value) :]
    buffer = flat(data)
    with pytest.raises(FormatError, match=what) as error:
        buffer.text(buffer.root(), 1)
    assert 0 <= error.value.facts["offset"] <= len(data)


def test_visits_are_bounded() -> None:
    """A file that points at one table from everywhere is left after a million visits."""
    buffer = flat(GOOD)
    buffer.visits_left = 3
    for _turn in range(3):
        buffer.root()
    with pytest.raises(FormatError, match="more tables"):
        buffer.root()
    assert VISITS_MAX == 1_000_000


def test_what_is_copied_is_bounded_by_the_file() -> None:
    """A name that many tables share cannot become more memory than a few times the file."""
    buffer = flat(GOOD)
    table = buffer.root()
    with pytest.raises(FormatError, match="more bytes than the file has"):
        for _turn in range(4 * len(GOOD) // 3 + 1):
            buffer.text(table, 1)


def test_a_name_that_is_no_text_is_escaped() -> None:
    """Bytes that are not UTF-8 do not stop anyone from finding the tensor."""
    buffer = flat(GOOD.replace(b"abc", b"a\xff\0"))
    assert buffer.text(buffer.root(), 1) == "a\\xff\0"


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_damage_is_read_or_refused(position: int, value: bytes) -> None:
    """Nothing but FormatError comes out of a damaged buffer."""
    data = (GOOD[:position] + value + GOOD[position + len(value) :])[: len(GOOD)]
    buffer = flat(data)
    try:
        table = buffer.root()
        start, count = buffer.vector(table, 2, 4)
        assert 0 <= start <= start + 4 * count <= len(data)
        buffer.text(table, 1)
        buffer.child(table, 4)
    except FormatError as error:
        assert 0 <= error.facts["offset"] <= len(data)
