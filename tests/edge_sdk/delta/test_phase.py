"""Where elements begin, from the bytes alone."""

from __future__ import annotations

import numpy as np
import pytest

from edge_sdk.delta.numeric import KINDS, ElementKind
from edge_sdk.delta.phase import likely_phase
from tests.support.deltas import weights


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_first_whole_element_is_found(kind: ElementKind) -> None:
    """Behind any number of other bytes."""
    numbers = weights(kind.name, 5000, 1)
    if not kind.is_float:
        numbers = np.random.default_rng(2).integers(-90, 91, 5000).astype(kind.bits)
    for phase in range(kind.width_bytes):
        assert likely_phase(b"12345678"[:phase] + numbers.tobytes(), kind) == phase


def test_any_bytes_have_a_phase() -> None:
    """None, fewer than an element, all alike."""
    for data in (b"", b"a", bytes(100)):
        assert all(0 <= likely_phase(data, kind) < kind.width_bytes for kind in KINDS)
