"""Sequences as applications ask for them: our client on the lane and off it, and Triton's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from device_agent.config import ModelConfig
from edge_sdk.base import UsageError
from edge_sdk.client import SequenceNotStartedError, SequenceStep, connect
from tests.support import onnx_models
from tests.support.serving_door import Serving, listening

MODEL = "team/remembering"
CONFIG = ModelConfig(states={"sum": "sum.next", "cache": "cache.next"})
Ask = Callable[[SequenceStep, float], float]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    with listening(tmp_path, {MODEL: onnx_models.remembering()}, settings={MODEL: CONFIG}) as made:
        yield made


@pytest.fixture(params=["lane", "gRPC", "Triton"])
def ask(request: pytest.FixtureRequest, served: Serving) -> Iterator[Ask]:
    """One request of value x, and the answer's first number."""
    if request.param == "Triton":
        with triton.InferenceServerClient(served.door.address) as client:

            def by_triton(step: SequenceStep, x: float) -> float:
                given = triton.InferInput("x", [1, 2], "FP32")
                given.set_data_from_numpy(np.full((1, 2), x, np.float32))
                answer = client.infer(
                    MODEL,
                    [given],
                    sequence_id=step.id,
                    sequence_start=step.start,
                    sequence_end=step.end,
                )
                assert [one.name for one in answer.get_response().outputs] == ["y"]
                return float(answer.as_numpy("y")[0, 0])

            yield by_triton
        return
    with connect(inference=served.door.address, fast_lane=request.param == "lane") as client:
        model = client.model(MODEL)

        def by_ours(step: SequenceStep, x: float) -> float:
            result = model.infer({"x": np.full((1, 2), x, np.float32)}, sequence=step)
            assert list(result.outputs) == ["y"]
            return float(result.outputs["y"][0, 0])

        yield by_ours


@pytest.mark.parametrize("one", [7, "seven"])
def test_state_is_kept_from_request_to_request(ask: Ask, one: int | str) -> None:
    """The same request gives another answer each time, as its sequence goes on; another
    sequence between them does not matter; after the end nothing is kept."""
    other = 8 if isinstance(one, int) else "eight"
    assert ask(SequenceStep(id=one, start=True), 1.0) == 1 + 1
    assert ask(SequenceStep(id=other, start=True), 5.0) == 5 + 5
    assert ask(SequenceStep(id=one), 1.0) == 1.5 + 2
    assert ask(SequenceStep(id=one), 1.0) == 1.75 + 3
    assert ask(SequenceStep(id=other), 5.0) == 7.5 + 10
    assert ask(SequenceStep(id=one, end=True), 1.0) == 1.875 + 4
    with pytest.raises(
        (SequenceNotStartedError, triton.InferenceServerException), match="START flag"
    ):
        ask(SequenceStep(id=one), 1.0)


def test_a_request_of_no_sequence_is_told_what_is_missing(served: Serving) -> None:
    """Also right after the same inputs with a sequence, on the same lane."""
    x = {"x": np.ones((1, 2), np.float32)}
    with connect(inference=served.door.address) as client:
        model = client.model(MODEL)
        model.infer(x, sequence=SequenceStep(id=1, start=True))
        with pytest.raises(UsageError, match="correlation ID"):
            model.infer(x)
        assert model.infer(x, sequence=SequenceStep(id=1)).outputs["y"][0, 0] == 1.5 + 2


def test_the_signature_is_without_states(served: Serving) -> None:
    """What applications are told to give and get."""
    with triton.InferenceServerClient(served.door.address) as client:
        told = client.get_model_metadata(MODEL)
        config = client.get_model_config(MODEL).config
    assert [one.name for one in told.inputs] == ["x"]
    assert [one.name for one in told.outputs] == ["y"]
    assert [one.name for one in config.input] == ["x"]
    assert [one.name for one in config.output] == ["y"]
