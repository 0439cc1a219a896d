"""Slab sources."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.tensor_pool import ALIGNMENT_BYTES, AnonymousMemory


def test_anonymous_memory_is_aligned_zero_and_freed() -> None:
    """Memory begins aligned and reads as zeros; after free it cannot be used."""
    source = AnonymousMemory()
    memory = source.allocate(1000)
    assert np.frombuffer(memory, np.uint8).ctypes.data % ALIGNMENT_BYTES == 0
    assert bytes(memory) == bytes(1000)
    source.free(memory)
    with pytest.raises(ValueError):
        memory.read(1)
