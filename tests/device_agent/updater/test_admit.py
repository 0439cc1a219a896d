"""Whether an artifact fits this device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from device_agent.updater.admit import check_memory, mapped_memory_bytes, memory_bytes
from edge_sdk.base import ResourceError
from edge_sdk.manifest import Manifest, Requirements
from tests.support.artifacts import make_artifact

SIZE = 1000


def manifest(*, model: str = "team/digits", stated_bytes: int | None = None) -> Manifest:
    made = make_artifact({"model.onnx": bytes(SIZE)}, model=model, serve="inference").manifest
    return replace(made, requires=Requirements(engine="onnxruntime", memory_bytes=stated_bytes))


@pytest.mark.parametrize(
    ("stated_bytes", "whole", "mapped"),
    [(None, 4000, 1000), (4000, 4000, 1000), (9000, 9000, 6000), (2000, 2000, 1000), (10, 10, 10)],
)
def test_mapped_weights_count_once(stated_bytes: int | None, whole: int, mapped: int) -> None:
    """Of what a model needs the copies of its weights fall away, and nothing else."""
    one = manifest(stated_bytes=stated_bytes)
    assert (memory_bytes(one), mapped_memory_bytes(one)) == (whole, mapped)


def test_a_model_that_fits_only_mapped_is_let_in_so() -> None:
    """Beside what serves, each as it is configured; for no other model, and up to the limit."""
    one, serving = manifest(), manifest(model="team/faces")
    check_memory(one, [serving], 8000)
    check_memory(one, [serving], 5000, mapped={"team/digits"})
    check_memory(one, [serving], 2000, mapped={"team/digits", "team/faces"})
    for limit_bytes, mapped in ((7999, ()), (4999, {"team/digits"}), (4999, {"team/faces"})):
        with pytest.raises(ResourceError, match="models may use"):
            check_memory(one, [serving], limit_bytes, mapped=mapped)
