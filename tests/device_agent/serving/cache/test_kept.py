"""Copies of outputs."""

from __future__ import annotations

import numpy as np
import pytest

from device_agent.serving.cache import keep
from device_agent.serving.cache.kept import size_bytes


def test_a_copy_stays_what_it_was() -> None:
    """What happens to the buffer afterwards does not reach it, and nobody can write to it."""
    buffer = np.arange(12, dtype=np.float32)[::2].reshape(2, 3)
    texts = np.array([["a", "bc"]], object)
    kept = keep({"y": buffer, "t": texts})
    before = buffer.copy()
    buffer[:] = 0
    texts[:] = "z"
    assert kept.outputs["y"].tobytes() == before.tobytes()
    assert kept.outputs["y"].shape == (2, 3)
    assert kept.outputs["t"].tolist() == [["a", "bc"]]
    for array in kept.outputs.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(ValueError, match="WRITEABLE"):
        kept.outputs["y"].setflags(write=True)


def test_texts_count() -> None:
    """The characters of texts are part of the size, not only the pointers to them."""
    assert size_bytes(np.array(["x" * 1000], object)) > 1000
    assert size_bytes(np.zeros((2, 3), np.int16)) == 12
    assert keep({"y": np.zeros(3), "z": np.zeros(1)}).size_bytes == 32
