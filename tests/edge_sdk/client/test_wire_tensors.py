"""Tensors as the protocol carries them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import UsageError
from edge_sdk.client.wire_tensors import (
    DTYPES,
    decode_array,
    decode_texts,
    encode_array,
    encode_texts,
)


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_texts_come_back(elements: list[bytes]) -> None:
    """Any bytes, empty ones too."""
    assert decode_texts(encode_texts(elements)) == elements


@given(st.binary(max_size=40))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    """No input but a whole one is accepted: what decodes encodes to the same bytes."""
    try:
        elements = decode_texts(data)
    except UsageError:
        return
    assert encode_texts(elements) == data


@given(
    st.sampled_from(sorted(set(DTYPES) - {"BYTES", "BF16"})),
    st.lists(st.integers(0, 1), min_size=0, max_size=12),
)
def test_arrays_come_back(datatype: str, values: list[int]) -> None:
    """Each datatype, writable, in any number of elements."""
    array: np.ndarray[Any, Any] = np.array(values).astype(DTYPES[datatype])
    got = decode_array(datatype, [len(values)], encode_array(array))
    assert got.dtype == array.dtype
    assert (got == array).all()
    got[:] = 0


def test_text_arrays_keep_their_shape() -> None:
    """Two dimensions, read in C order, and bytes that are no UTF-8 are kept."""
    array = np.array([["a", "b"], ["ü", ""]], object)
    assert (decode_array("BYTES", [2, 2], encode_array(array)) == array).all()
    odd = decode_array("BYTES", [1], encode_texts([b"\xff"]))[0]
    assert odd.encode("utf-8", "surrogateescape") == b"\xff"


def test_numbers_are_little_endian() -> None:
    """On any machine."""
    assert encode_array(np.array([1], np.int32)) == b"\x01\0\0\0"


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("FP32", [2], b"\0" * 4),
        ("FP32", [1], b"\0" * 5),
        ("FP31", [1], b"\0" * 4),
        ("BYTES", [2], b"\1\0\0\0a"),
    ],
)
def test_answers_that_do_not_add_up_are_refused(
    datatype: str, shape: list[int], data: bytes
) -> None:
    """Datatype, shape and bytes must agree."""
    with pytest.raises(UsageError):
        decode_array(datatype, shape, data)
