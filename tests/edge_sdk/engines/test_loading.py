"""Which way of loading is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from edge_sdk.engines import Loading, choose_loading, is_quantised
from tests.support import onnx_models

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


@pytest.mark.parametrize(
    ("free", "batch_max", "taken"),
    [(199, 1, "prepacked"), (125, 1, "prepacked"), (124, 1, "mapped"), (0, 2, "prepacked")],
)
def test_quantised_models_are_mapped_only_where_they_must_be(
    free: int, batch_max: int, taken: Loading
) -> None:
    """They run several times slower so: they get four fifths of the free memory, not half."""
    facts = {"model_bytes": 100 * MIB, "free_bytes": free * MIB, "batch_max": batch_max}
    assert choose_loading("auto", known=BOTH, is_quantised=lambda: True, **facts) == taken


def test_what_is_quantised_is_seen_in_the_weights(tmp_path: Path) -> None:
    """By the bytes of small integers among them; a file that is no model is none."""
    model = onnx_models.mlp((64, 32, 10))
    whole = onnx_models.save(model, tmp_path / "float.onnx")
    assert not is_quantised(whole)
    small = numpy_helper.from_array(np.zeros((64, 64), np.int8), "small")
    model.graph.initializer.append(small)  # 4,096 bytes beside 9,472 of floats
    assert not is_quantised(onnx_models.save(model, tmp_path / "some.onnx"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((99, 64), np.uint8), "more"))
    assert is_quantised(onnx_models.save(model, tmp_path / "most.onnx"))
    (tmp_path / "none.onnx").write_bytes(b"none")
    assert not is_quantised(tmp_path / "none.onnx")


def test_what_somebody_said_is_taken() -> None:
    """Memory and batches decide only where nobody did; an engine decides what it alone knows."""
    full = {"model_bytes": MIB, "free_bytes": 0}
    empty = {"model_bytes": 0, "free_bytes": MIB}
    assert choose_loading("prepacked", known=BOTH, **full) == "prepacked"
    assert choose_loading("mapped", known=BOTH, batch_max=8, **empty) == "mapped"
    assert choose_loading("auto", known=("auto",), **full) == "auto"
    assert choose_loading("mapped", known=("auto",), **empty) == "mapped"  # to be refused there
