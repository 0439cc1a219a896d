"""Replaying golden inputs on probation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from device_agent.serving.replay import Watched, bind
from edge_sdk.engines import EngineError
from tests.support import onnx_models
from tests.support.serving_door import serving


def test_a_candidate_that_fails_while_replayed_counts_errors(tmp_path: Path) -> None:
    """An engine error in the replay is an error of the candidate, not an end of watching."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(1.0)})
    candidate = made.load("team/linear", onnx_models.linear(2.0), "2.0.0")
    watched = Watched(
        candidate=candidate,
        before=made.table.find("team/linear", ""),
        since=candidate.statistics.snapshot(),
    )

    class Failing:
        def run(self) -> dict[str, np.ndarray]:
            raise EngineError("broken")

    watched._candidate = Failing()
    observed = watched.observe()
    assert observed.errors >= 1
    assert observed.candidate_compute_ns == ()
    assert observed.active_compute_ns


def test_inputs_that_do_not_fit_bind_nothing(tmp_path: Path) -> None:
    """A model with other inputs has no binding, and is then not timed."""
    made = serving(tmp_path)
    generation = made.load("team/linear", onnx_models.linear(1.0))
    assert bind(generation, {"z": np.ones(1, np.float32)}) is None
    assert bind(generation, {"x": np.ones((1, 4), np.float32)}) is not None


def test_loading_warms_and_measures(tmp_path: Path) -> None:
    """A loaded generation has run on seeded inputs, with its memory and time known."""
    made = serving(tmp_path)
    generation = made.load("team/mlp", onnx_models.mlp((512, 512, 4)))
    assert generation.load_ms > 0
    assert generation.memory_bytes > 500_000
    assert generation.identity.golden["x"].shape == (1, 512)
    assert generation.slots.take([(1, 512)]).outputs["y"].shape == (1, 4)
