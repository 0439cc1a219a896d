"""Sequences through the dispatcher, on a real engine, with a state that grows."""

from __future__ import annotations

import threading
from collections.abc import Sequence as Values
from pathlib import Path

import numpy as np
import pytest

from device_agent.config import CacheConfig, ModelConfig
from device_agent.serving.cache import ResponseCache
from device_agent.serving.request import GivenTensor
from device_agent.serving.sequences import Sequence
from edge_sdk.base import RefusedError, UsageError
from edge_sdk.client import SequenceNotStartedError
from tests.support import onnx_models
from tests.support.serving_door import Serving, serving

MODEL = "team/remembering"
STATES = {"sum": "sum.next", "cache": "cache.next"}
CONFIG = ModelConfig(states=STATES)


@pytest.fixture
def made(tmp_path: Path) -> Serving:
    return serving(tmp_path, {MODEL: onnx_models.remembering()}, settings={MODEL: CONFIG})


def tensor(name: str, array: np.ndarray) -> GivenTensor:
    return GivenTensor(name=name, dtype="float32", shape=array.shape, data=array.tobytes())


def step(
    made: Serving, sequence: Sequence | None, x: float, *, rows: int = 1, wanted: Values[str] = ()
) -> dict[str, np.ndarray]:
    given = [tensor("x", np.full((rows, 2), x, np.float32))]
    with made.dispatcher.infer(MODEL, "", given, wanted=wanted, sequence=sequence) as answer:
        return {name: np.array(array) for name, array in answer.outputs.items()}


def expected(values: Values[float]) -> float:
    total = seen = np.float32(0)
    for value in values:
        total = total / np.float32(2) + np.float32(value)
        seen += np.float32(value)
    return float(total + seen)


def go(one: int | str, number: int, last: int = -1) -> Sequence:
    return Sequence(id=one, start=number == 0, end=number == last)


def test_interleaved_sequences_do_not_meet(made: Serving) -> None:
    """Each answers as if it were alone, its cache growing; afterwards no slab is kept for it."""
    before = made.pool.statistics().slabs_used
    values = {one: [float(one * 10 + n) for n in range(6)] for one in (1, 2, 3)}
    for number in range(6):
        for one, given in values.items():
            got = step(made, go(one, number, 5), given[number])
            assert list(got) == ["y"]
            assert (got["y"] == expected(given[: number + 1])).all()
    states = made.table.find(MODEL, "").states
    assert states is not None
    assert (len(states), states.size_bytes) == (0, 0)
    kept = made.pool.statistics().slabs_used - before
    assert kept <= 6  # buffers for starts; none for each length that a state had


def test_a_state_that_grows_is_not_copied(made: Serving) -> None:
    """The next state is the output itself, and the run after reads it where it lies; but not
    where somebody asked to see it, who may still look when it goes on."""
    states = made.table.find(MODEL, "").states
    assert states is not None
    step(made, go(1, 0), 1.0)
    given = [tensor("x", np.ones((1, 2), np.float32))]
    for number in (1, 2):
        before = states._states[1].arrays
        assert before is not None
        with made.dispatcher.infer(MODEL, "", given, sequence=go(1, number)) as answer:
            assert answer.slot is not None
            assert answer.slot.inputs["cache"] is before["cache"]
            now = states._states[1].arrays
            assert now is not None
            assert now["cache"].shape == (1, number + 1, 2)
            assert answer.slot.slab_of(now["cache"]) is None  # the state's now
    wanted = ["cache.next"]
    with made.dispatcher.infer(MODEL, "", given, wanted=wanted, sequence=go(1, 3)) as answer:
        step(made, go(1, 4), 7.0)
        assert (answer.outputs["cache.next"] == 1).all()


def test_rows_of_a_request_are_rows_of_its_state(made: Serving) -> None:
    """A recurrent state has the batch of its first request; another does not fit."""
    step(made, go("a", 0), 1.0, rows=3)
    assert step(made, go("a", 1), 2.0, rows=3)["y"].shape == (3, 2)
    with pytest.raises(UsageError, match="2 rows in a sequence that began with 3"):
        step(made, go("a", 2), 2.0, rows=2)
    assert (step(made, go("a", 2), 2.0, rows=3)["y"] == expected([1, 2, 2])).all()


def test_next_states_are_answered_only_when_asked_for(made: Serving) -> None:
    """By name, and as they are."""
    step(made, go(1, 0), 1.0)
    got = step(made, go(1, 1), 2.0, wanted=["cache.next", "y"])
    assert list(got) == ["cache.next", "y"]
    assert got["cache.next"][0, :, 0].tolist() == [1.0, 2.0]


def test_a_request_may_bring_its_state(made: Serving) -> None:
    """In a sequence in place of the state that was kept; without one it must bring all."""
    step(made, go(1, 0), 1.0)
    given = [
        tensor("x", np.ones((1, 2), np.float32)),
        tensor("sum", np.full((1, 2), 10, np.float32)),
    ]
    with made.dispatcher.infer(MODEL, "", given, sequence=go(1, 1)) as answer:
        assert (answer.outputs["y"] == 10 / 2 + 1 + 1 + 1).all()
    with pytest.raises(UsageError, match="correlation ID"):
        made.dispatcher.infer(MODEL, "", given)
    given.append(tensor("cache", np.zeros((1, 0, 2), np.float32)))
    with made.dispatcher.infer(MODEL, "", given) as answer:
        assert list(answer.outputs) == ["y"]
        assert (answer.outputs["y"] == 10 / 2 + 1 + 1).all()
    with pytest.raises(UsageError, match=r"unexpected input 'z'"):
        made.dispatcher.infer(MODEL, "", [*given, tensor("z", np.zeros(1))], sequence=go(1, 2))


def test_a_switch_ends_sequences(made: Serving) -> None:
    """Another artifact has other states: what went on is told to start again, and why."""
    step(made, go(1, 0), 1.0)
    made.serve(MODEL, onnx_models.remembering(), "2.0.0")
    with pytest.raises(SequenceNotStartedError, match="another version serves now"):
        step(made, go(1, 1), 1.0)
    assert (step(made, go(1, 0), 1.0)["y"] == expected([1])).all()
    errors = made.table.find(MODEL, "").statistics.snapshot()
    assert (errors.count["fail"], errors.errors) == (1, 0)  # the request's fault


def test_in_a_canary_a_sequence_stays_on_its_side(made: Serving) -> None:
    """Those that go on stay where their state is; new ones fall to one side by their id."""
    before = made.table.find(MODEL, "")
    step(made, go(1, 0), 1.0)
    candidate = made.load(MODEL, onnx_models.remembering(), "2.0.0")
    made.table.stand_beside(candidate, 1.0)
    assert (step(made, go(1, 1), 2.0)["y"] == expected([1, 2])).all()
    step(made, go(2, 0), 1.0)
    assert (step(made, go(2, 1), 3.0)["y"] == expected([1, 3])).all()
    assert before.states is not None
    assert candidate.states is not None
    assert (before.states.knows(1), before.states.knows(2)) == (True, False)
    assert (candidate.states.knows(1), candidate.states.knows(2)) == (False, True)
    made.table.switch(before)  # rolled back
    with pytest.raises(SequenceNotStartedError, match="another version"):
        step(made, go(2, 2), 1.0)


def test_many_threads_keep_their_sequences_apart(tmp_path: Path) -> None:
    """Eight threads, each with its sequence, on requests that may run as one."""
    made = serving(
        tmp_path,
        {MODEL: onnx_models.remembering()},
        settings={MODEL: ModelConfig(states=STATES, batch_max=4)},
    )
    wrong: list[object] = []

    def talk(one: int) -> None:
        values = [float(one + n) for n in range(12)]
        for number, value in enumerate(values):
            got = step(made, go(one, number, 11), value)["y"]
            if not (got == expected(values[: number + 1])).all():
                wrong.append((one, number, got))

    threads = [threading.Thread(target=talk, args=(one,)) for one in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_a_model_without_such_states_is_refused_at_load(tmp_path: Path) -> None:
    """The settings name a tensor that it does not have: it never serves."""
    made = serving(tmp_path, settings={MODEL: ModelConfig(states={"h": "h.next"})})
    with pytest.raises(RefusedError, match="'h' is no input"):
        made.load(MODEL, onnx_models.remembering())


def test_the_cache_answers_no_sequence(tmp_path: Path) -> None:
    """The same bytes in the same sequence have another answer each time."""
    made = serving(
        tmp_path,
        {MODEL: onnx_models.remembering()},
        settings={MODEL: CONFIG},
        caches={MODEL: ResponseCache(CacheConfig(memory_bytes=1 << 20).memory_bytes)},
    )
    assert (step(made, go(1, 0), 1.0)["y"] == expected([1])).all()
    assert (step(made, go(1, 1), 1.0)["y"] == expected([1, 1])).all()
