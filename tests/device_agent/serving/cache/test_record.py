"""Requests and answers as bytes."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from device_agent.serving.cache import RequestKey, keep
from device_agent.serving.cache.record import decode_record, encode_record
from edge_sdk.base import Digest

ONE = Digest.of(b"one")
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4)
numbers = hnp.arrays(
    st.sampled_from([np.dtype(k) for k in ("f2", "f4", "f8", "?", "i1", "u8", "u2")]),
    hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
)


@given(data=st.binary(max_size=100), words=texts, array=numbers)
def test_what_is_written_is_read(data: bytes, words: list[str], array: np.ndarray) -> None:
    """Request and answer come back the same: types, shapes, bytes, texts."""
    parts = [("x", "uint8", (len(data),), data), ("t", "string", (len(words),), tuple(words))]
    key = RequestKey(ONE, ("y", "t"), parts)
    kept = keep({"y": array, "t": np.array(words, object).reshape(-1, 1)})
    body = encode_record(key, kept)
    assert body is not None
    found = decode_record(body, ONE)
    assert found is not None
    assert found[0] == key
    got = found[1].outputs
    assert (got["y"].dtype, got["y"].shape) == (array.dtype, array.shape)
    assert got["y"].tobytes() == array.tobytes()
    assert got["t"].tolist() == [[word] for word in words]
    assert found[1].size_bytes == kept.size_bytes
    other = decode_record(body, Digest.of(b"two"))
    assert other is not None
    assert other[0] != key


@given(data=st.binary(max_size=200))
def test_other_bytes_are_no_record(data: bytes) -> None:
    """Whatever the bytes are, the answer is None or a record, never another error."""
    decode_record(data, ONE)


def test_what_does_not_go_together_is_no_record() -> None:
    """Counts, types and kinds that contradict each other."""
    for output in (
        ("y", "<f4", (3,), b"1234"),
        ("y", "<f4", (1,), ("a",)),
        ("y", "O", (2,), ("a",)),
        ("y", "O", (1,), b"a"),
        ("y", "|O", (1,), b"12345678"),
        ("y", "<f4", (-2,), b"12345678"),
    ):
        assert decode_record(msgspec.msgpack.encode((("y",), (), (output,))), ONE) is None
    half = keep({"y": np.array(["\ud800"], object)})
    assert encode_record(RequestKey(ONE, ("y",), []), half) is None
