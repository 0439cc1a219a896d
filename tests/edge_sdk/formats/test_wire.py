"""The wire format, walked in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.formats.model_file import ModelFile
from edge_sdk.formats.wire import (
    I32,
    I64,
    LEN,
    VARINT,
    Field,
    Wire,
    WireError,
    signed,
    tag_of,
)
from tests.support.wire_bytes import message, number, varint


def walk(data: bytes, *wanted: int, fields_max: int = 10_000) -> list[Field]:
    file = ModelFile(path=Path("model"), data=data, size_bytes=len(data))
    return list(Wire(file, fields_max=fields_max).fields(0, len(data), frozenset(wanted)))


def refused(data: bytes, **limits: int) -> WireError:
    with pytest.raises(WireError) as error:
        walk(data, tag_of(1, VARINT), **limits)
    return error.value


def test_wanted_fields_come_in_order_with_their_places() -> None:
    """Only wanted fields are yielded, each with its value or where its content lies."""
    data = number(1, 300) + message(2, b"skipped") + message(3, b"content") + number(1, 7)
    first, content, last = walk(data, tag_of(1, VARINT), tag_of(3, LEN))
    assert (first.value, last.value) == (300, 7)
    assert data[content.start : content.end] == b"content"


def test_fields_of_every_wire_type_are_stepped_over() -> None:
    """Fixed and varying numbers, messages and large field numbers do not stop the walk."""
    data = (
        varint(tag_of(9, I32)) + bytes(4) + varint(tag_of(8, I64)) + bytes(8)
        + number(1 << 28, 1 << 63) + message(100_000, bytes(300)) + number(1, 5)
    )  # fmt: skip
    assert [field.value for field in walk(data, tag_of(1, VARINT))] == [5]


def test_a_known_field_of_another_wire_type_is_unknown() -> None:
    """A field is known by number and wire type together, as protobuf's parsers take it."""
    assert walk(message(1, b"text"), tag_of(1, VARINT)) == []


@pytest.mark.parametrize(
    ("data", "offset", "what"),
    [
        (b"\x08", 1, "truncated"),
        (b"\x08\xff\xff", 1, "truncated"),
        (b"\x0a\x05abc", 0, "truncated"),
        (b"\x08\x01\x0d\0\0", 2, "truncated"),
        (b"\x08" + b"\xff" * 10, 1, "more than ten bytes"),
        (b"\x08\x01\x0b", 2, "wire type 3"),
        (b"\x0f", 0, "wire type 7"),
        (b"\x00\x00", 0, "tag 0"),
        (b"\xff\xff\xff\xff\xff\x01\x00", 0, "not a field"),
    ],
)
def test_what_breaks_the_format_is_refused_where_it_stands(
    data: bytes, offset: int, what: str
) -> None:
    """The error names the byte at which the broken field or number begins."""
    error = refused(data)
    assert error.facts["offset"] == offset
    assert what in error.message
    assert f"byte {offset}" in error.message


def test_a_field_does_not_reach_out_of_its_message() -> None:
    """A length that fits the file but not the message around it is refused."""
    data = message(1, b"\x0a\x05ab") + b"beyond"
    file = ModelFile(path=Path("model"), data=data, size_bytes=len(data))
    with pytest.raises(WireError):
        list(Wire(file).fields(2, 6, frozenset()))


def test_more_fields_than_the_limit_are_refused() -> None:
    """The cost of a walk is bounded, however many tiny fields a file has."""
    data = b"".join(number(1 + turn % 2, 1) for turn in range(200))
    assert "more fields" in refused(data, fields_max=100).message


@pytest.mark.parametrize(
    "once", [number(7, 5), number(7, 1 << 60), b"\x3d1234", b"\x3912345678"], ids=repr
)
def test_long_lists_of_numbers_cost_little(once: bytes) -> None:
    """A list written as a field for each number passes in runs, and what follows is found."""
    data = once * 50_000 + number(1, 9)
    assert [field.value for field in walk(data, tag_of(1, VARINT), fields_max=100)] == [9]


def test_a_broken_number_in_a_long_list_is_found() -> None:
    """Runs do not hide damage: the walk stops at the broken field's number."""
    good = number(7, 5) * 1000
    assert refused(good + b"\x38" + b"\xff" * 11).facts["offset"] == len(good) + 1


def test_packed_numbers_are_read_up_to_a_limit() -> None:
    """A packed list is read until one more than the limit, so that too many are seen."""
    data = b"".join(varint(value) for value in (1, 300, 5, 6))
    file = ModelFile(path=Path("model"), data=data, size_bytes=len(data))
    wire = Wire(file)
    assert wire.varints(0, len(data), count_max=9) == [1, 300, 5, 6]
    assert wire.varints(0, len(data), count_max=2) == [1, 300, 5]


def test_numbers_of_64_bits_are_signed_where_meant() -> None:
    """Two's complement of 64 bits, as int64 fields are written."""
    assert [signed(value) for value in (0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)] == [
        0,
        1,
        (1 << 63) - 1,
        -(1 << 63),
        -1,
    ]


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_walked_or_refused(data: bytes) -> None:
    """Any bytes give fields inside of them, or a WireError inside of them."""
    wanted = [tag_of(field, kind) for field in range(1, 20) for kind in (VARINT, LEN)]
    try:
        for field in walk(data, *wanted):
            assert 0 < field.start <= field.end <= len(data)
    except WireError as error:
        assert 0 <= error.facts["offset"] <= len(data)


def _parts() -> Iterator[st.SearchStrategy[bytes]]:
    fields = st.integers(1, 40)
    yield st.builds(number, fields, st.integers(0, (1 << 64) - 1))
    yield st.builds(message, fields, st.binary(max_size=40))
    yield st.builds(
        lambda field, data: varint(tag_of(field, I32)) + data,
        fields,
        st.binary(min_size=4, max_size=4),
    )
    yield st.builds(
        lambda field, data: varint(tag_of(field, I64)) + data,
        fields,
        st.binary(min_size=8, max_size=8),
    )


@given(st.lists(st.one_of(*_parts()), max_size=30))
@settings(max_examples=100, deadline=None)
def test_skipping_finds_the_same_fields_as_reading_all(parts: list[bytes]) -> None:
    """Which fields are wanted changes what is yielded, never where fields are found."""
    data = b"".join(parts)
    everything = [tag_of(field, kind) for field in range(1, 41) for kind in (VARINT, I64, LEN, I32)]
    wanted = {tag_of(3, VARINT), tag_of(3, LEN), tag_of(5, I32)}
    assert len(walk(data, *everything)) == len(parts)
    assert walk(data, *wanted) == [
        field for field in walk(data, *everything) if field.tag in wanted
    ]
