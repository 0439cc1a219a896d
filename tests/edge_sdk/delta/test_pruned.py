"""Pruned weights are told from tuned ones."""

import numpy as np
import pytest

from edge_sdk.delta.numeric import kind_of
from edge_sdk.delta.pruned import looks_pruned
from tests.support.deltas import tuned, weights

COUNT = 60_000
STAYS = np.random.default_rng(3).random(COUNT) < 0.6


def looks(kind: str, before: np.ndarray, after: np.ndarray, edge: bytes = b"") -> bool:
    found = kind_of(kind)
    assert found is not None
    return looks_pruned(edge + before.tobytes(), edge + after.tobytes(), found, len(edge))


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("edge", [b"", b"x"])
def test_zeros_among_what_stayed_are_seen(kind: str, edge: bytes) -> None:
    """From any phase, and where weights times a mask left zeros with a sign."""
    before = weights(kind, COUNT, 1)
    sign = before & before.dtype.type(1 << (8 * before.itemsize - 1))
    for zero in (before.dtype.type(0), sign):
        assert looks(kind, before, np.where(STAYS, before, zero), edge)


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_what_else_changed_is_no_pruning(kind: str) -> None:
    """The same numbers, tuned ones, pruned and tuned ones, very few zeros."""
    before = weights(kind, COUNT, 1)
    few = np.where(np.arange(COUNT) % 100, before, before.dtype.type(0))
    for after in (before, tuned(before, 2), np.where(STAYS, tuned(before, 2), 0), few):
        assert not looks(kind, before, after.astype(before.dtype))


def test_bytes_and_short_sources_are_left_to_their_codes() -> None:
    """Single bytes are shorter by a code; a source that ends early says nothing; nor does
    less than one number."""
    narrow = weights("int8", COUNT, 1)
    assert not looks("int8", narrow, np.where(STAYS, narrow, 0).astype(narrow.dtype))
    before = weights("float32", COUNT, 1)
    after = np.where(STAYS, before, 0).astype(before.dtype)
    assert not looks("float32", before[:-1], after)
    assert not looks("float32", before[:0], after[:0], b"xyz")
