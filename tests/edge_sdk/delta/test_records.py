"""Framing of records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import CHUNK_BYTES, DeltaError
from edge_sdk.delta.container import RECORD_BODY_BYTES_MAX
from edge_sdk.delta.records import head_length, open_record, parse_place, put_place, seal
from edge_sdk.delta.varint import Cursor, varints
from tests.support.deltas import place


@given(st.integers(0, 128), st.binary(max_size=300))
def test_a_record_comes_back(kind: int, body: bytes) -> None:
    """Kind and body are what was sealed, and the head tells the length."""
    record = seal(kind, body)
    head = next(n for n in (2, 3, 4) if head_length(record[:n]) is not None)
    assert head_length(record[:head]) == len(record)
    found, cursor = open_record(record, 7)
    assert (found, bytes(cursor.rest())) == (kind, body)


def test_a_length_is_bounded_before_it_is_believed() -> None:
    """More bytes than a record may have are refused from the head alone."""
    assert head_length(b"\x01\x80") is None
    assert head_length(b"\x01\x80\x80") is None
    for head in (b"\x01\x80\x80\x80", b"\x01" + varints(RECORD_BODY_BYTES_MAX + 1)):
        with pytest.raises(DeltaError, match="claims"):
            head_length(head)
    with pytest.raises(DeltaError, match="padding"):
        head_length(b"\x01\x80\x00")
    with pytest.raises(DeltaError, match="longer than"):
        seal(1, bytes(RECORD_BODY_BYTES_MAX + 1))


def test_a_damaged_record_says_where() -> None:
    """The error of a record whose check differs has its offset."""
    record = bytearray(seal(2, b"payload"))
    record[3] ^= 1
    with pytest.raises(DeltaError, match="byte 99") as damaged:
        open_record(record, 99)
    assert damaged.value.facts["offset"] == 99


def test_a_place_has_bytes() -> None:
    """A place comes back; one without bytes makes nothing and is refused."""
    there = place(5, 7, 2)
    assert parse_place(Cursor(put_place(there), "")) == there
    with pytest.raises(DeltaError, match="no bytes"):
        parse_place(Cursor(varints(0, 0, 0), "a record"))


def test_a_place_knows_whether_it_crosses_a_border() -> None:
    """A place that ends with a chunk does not cross it."""
    assert not place(CHUNK_BYTES).crosses_chunks
    assert not place(1, CHUNK_BYTES - 1).crosses_chunks
    assert place(2, CHUNK_BYTES - 1).crosses_chunks
