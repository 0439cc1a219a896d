"""Numbers of the format: one spelling each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import DeltaError
from edge_sdk.delta.varint import VALUE_MAX, Cursor, varints


@given(st.lists(st.integers(0, VALUE_MAX), max_size=5))
def test_numbers_come_back(values: list[int]) -> None:
    """What is written one after the other is read one after the other, to the last byte."""
    cursor = Cursor(varints(*values), "a test")
    assert [cursor.varint() for _ in values] == values
    cursor.end()


@given(st.binary(max_size=12))
def test_a_number_has_one_spelling(data: bytes) -> None:
    """Any bytes are a number in its only spelling, or a DeltaError."""
    cursor = Cursor(data, "a test")
    try:
        value = cursor.varint()
    except DeltaError:
        return
    assert varints(value) == data[: cursor.position]


numbers = st.one_of(st.integers(0, 300), st.integers(0, VALUE_MAX))


@given(st.lists(numbers, max_size=40), st.binary(max_size=3))
def test_several_numbers_are_read_at_once(values: list[int], rest: bytes) -> None:
    """As one by one, and what follows stays."""
    cursor = Cursor(b"x" + varints(*values) + rest, "a test")
    cursor.take(1)
    assert cursor.varints(len(values)).tolist() == values
    assert cursor.rest() == rest


@given(st.binary(max_size=40), st.integers(0, 12))
def test_any_bytes_are_read_at_once_as_one_by_one(data: bytes, count: int) -> None:
    """The same numbers, or the same error."""
    one, many = Cursor(data, "a test"), Cursor(data, "a test")
    try:
        values = [one.varint() for _ in range(count)]
    except DeltaError as error:
        with pytest.raises(DeltaError) as refused:
            many.varints(count)
        assert refused.value.message == error.message
        return
    assert many.varints(count).tolist() == values
    assert many.position == one.position


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "ends within"),
        (b"\x80", "ends within"),
        (b"\x80\x00", "padding"),
        (b"\xff\x80\x00", "padding"),
        (b"\xff" * 9 + b"\x01", "2\\*\\*63"),
        (b"\x80" * 9, "2\\*\\*63"),
    ],
)
def test_other_spellings_are_refused(data: bytes, problem: str) -> None:
    """Cut, padded and too large numbers are refused, and the error names the piece."""
    with pytest.raises(DeltaError, match=problem) as refused:
        Cursor(data, "the header").varint()
    assert refused.value.facts["piece"] == "the header"


def test_the_largest_number_fits() -> None:
    """2**63 - 1 takes nine bytes; the number above cannot be written."""
    assert varints(VALUE_MAX) == b"\xff" * 8 + b"\x7f"
    for value in (VALUE_MAX + 1, -1):
        with pytest.raises(DeltaError, match="cannot be written"):
            varints(value)


def test_a_cursor_never_reads_past_the_end() -> None:
    """Taking more bytes than are left, or leaving some, is an error."""
    cursor = Cursor(b"abcd", "a record")
    assert cursor.take(3) == b"abc"
    with pytest.raises(DeltaError, match="1 bytes too early"):
        cursor.take(2)
    with pytest.raises(DeltaError, match="1 bytes too many"):
        cursor.end()
    assert cursor.rest() == b"d"
    assert len(cursor) == 0
