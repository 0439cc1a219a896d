"""Bytes that were written as text come back; anything else has an answer too."""

from __future__ import annotations

import pickle

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.delta.prediction import Prediction, SourceRange, parse_prediction, put_prediction
from edge_sdk.delta.text_map import TextMap, unpacked_text
from edge_sdk.delta.varint import Cursor
from tests.support.deltas import file_ref


@given(st.binary(max_size=300))
def test_what_was_written_as_text_comes_back(data: bytes) -> None:
    """As Python writes it into a pickle of protocol 2."""
    text = data.decode("latin-1").encode()
    assert text in pickle.dumps(data, 2)
    assert unpacked_text(text) == data


@given(st.lists(st.one_of(st.sampled_from([194, 195, 128, 191, 192, 65]), st.integers(0, 255))))
def test_any_bytes_are_unpacked_by_one_rule(numbers: list[int]) -> None:
    """A lead with what belongs to it is one byte, everything else is itself."""
    made, at = bytearray(), 0
    while at < len(numbers):
        two = numbers[at] in (194, 195) and at + 1 < len(numbers) and 128 <= numbers[at + 1] < 192
        made.append(numbers[at + 1] + 64 * (numbers[at] == 195) if two else numbers[at])
        at += 1 + two
    assert unpacked_text(bytes(numbers)) == bytes(made)


def test_a_prediction_is_as_long_as_its_text() -> None:
    """Its bytes first, then zeros; any part of it is the same as that part of all."""
    data = bytes(range(256))
    source = b"head" + data.decode("latin-1").encode()
    held = SourceRange(file=0, offset=4, length=len(source) - 4)
    made = parse_prediction(
        Cursor(put_prediction(Prediction(ranges=(held,), values=TextMap())), "a table"),
        (file_ref("a", source),),
    )

    def read(_file: int, at: int, length: int) -> bytes:
        return source[at : at + length]

    whole = data + bytes(made.length - len(data))
    assert made.length == 384
    for start in range(0, 384, 17):
        for end in range(start, 384, 23):
            assert made.read(start, end - start, read) == whole[start:end]
