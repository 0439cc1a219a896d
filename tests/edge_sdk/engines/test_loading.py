"""Which way of loading is taken."""

from __future__ import annotations

import pytest

from edge_sdk.engines import Loading, choose_loading

BOTH: tuple[Loading, ...] = ("auto", "mapped", "prepacked")
MIB = 1 << 20


@pytest.mark.parametrize(
    ("model", "free", "batch_max", "taken"),
    [
        (100, 1000, 1, "prepacked"),
        (100, 199, 1, "mapped"),
        (100, 200, 1, "prepacked"),
        (100, 199, 2, "prepacked"),
        (100, 0, 1, "mapped"),
        (0, 0, 1, "prepacked"),
    ],
)
def test_large_models_that_run_alone_are_mapped(
    model: int, free: int, batch_max: int, taken: Loading
) -> None:
    """More than half of the free memory, and no batches; all else is prepacked."""
    facts = {"model_bytes": model * MIB, "free_bytes": free * MIB}
    assert choose_loading("auto", known=BOTH, batch_max=batch_max, **facts) == taken


def test_what_somebody_said_is_taken() -> None:
    """Memory and batches decide only where nobody did; an engine decides what it alone knows."""
    full = {"model_bytes": MIB, "free_bytes": 0}
    empty = {"model_bytes": 0, "free_bytes": MIB}
    assert choose_loading("prepacked", known=BOTH, **full) == "prepacked"
    assert choose_loading("mapped", known=BOTH, batch_max=8, **empty) == "mapped"
    assert choose_loading("auto", known=("auto",), **full) == "auto"
    assert choose_loading("mapped", known=("auto",), **empty) == "mapped"  # to be refused there
