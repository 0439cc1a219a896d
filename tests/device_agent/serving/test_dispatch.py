"""Dispatching: turns, checks, and what a request leaves behind."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from device_agent.serving import dispatch
from device_agent.serving.dispatch import GivenTensor, Turns
from edge_sdk.base import ResourceError, UnavailableError, UsageError
from edge_sdk.tensor_pool import SlabError
from tests.support import onnx_models
from tests.support.processes import wait_for
from tests.support.serving_door import serving


def given(rows: int = 1, value: float = 1.0) -> GivenTensor:
    array = np.full((rows, 4), value, np.float32)
    return GivenTensor(name="x", dtype="float32", shape=array.shape, data=array.tobytes())


def test_an_answer_names_who_computed_it(tmp_path: Path) -> None:
    """Outputs lie in the pool while the block lasts, and are right in every run."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(2.0)})
    for value in (1.0, 2.0, 3.0):
        with made.dispatcher.infer("team/linear", "", [given(value=value)]) as answer:
            assert answer.identity.version == "1.0.0"
            assert (answer.outputs["y"] == 2 * value).all()
            assert made.pool.owns(answer.outputs["y"])


def test_requests_of_many_threads_get_their_own_rows(tmp_path: Path) -> None:
    """Eight threads with different values and shapes each get their own answers."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(3.0)})
    wrong: list[float] = []

    def work(number: int) -> None:
        for turn in range(60):
            value = float(number * 1000 + turn)
            tensor = given(1 + turn % 3, value)
            with made.dispatcher.infer("team/linear", "", [tensor], timeout_s=30) as answer:
                if not (answer.outputs["y"] == 3 * value).all():
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    served = made.table.find("team/linear", "").statistics.snapshot()
    assert served.requests == 8 * 60
    assert served.errors == 0


def test_turns_are_bounded_in_time_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long, or comes when too many wait, is UNAVAILABLE; the next gets its turn."""
    monkeypatch.setattr(dispatch, "WAITING_MAX", 1)
    turns = Turns(1)
    turns.take(None)
    with pytest.raises(UnavailableError, match="timeout expired"):
        turns.take(0.01)
    waiter = threading.Thread(target=lambda: turns.take(30))
    waiter.start()
    wait_for(lambda: turns._waiting == 1, "the waiter")
    with pytest.raises(UnavailableError, match="maximum queue size"):
        turns.take(30)
    turns.give()
    waiter.join(timeout=30)
    assert not waiter.is_alive()
    turns.give()
    turns.take(0)


def test_no_memory_is_a_typed_error_and_not_the_end(tmp_path: Path) -> None:
    """A request larger than the pool is ResourceError; a smaller one is then answered."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(2.0)})
    with (
        pytest.raises(ResourceError),
        made.dispatcher.infer(
            "team/linear",
            "",
            [GivenTensor(name="x", dtype="float32", shape=(1 << 25, 4), data=_Zeros(1 << 29))],
        ),
    ):
        pass
    with made.dispatcher.infer("team/linear", "", [given()]) as answer:
        assert (answer.outputs["y"] == 2).all()


class _Zeros(bytes):
    """Claims a length without having it: only the length is looked at before memory is."""

    def __new__(cls, size: int) -> _Zeros:
        made = super().__new__(cls)
        made.size = size  # type: ignore[attr-defined]
        return made

    def __len__(self) -> int:
        return int(self.size)  # type: ignore[attr-defined]


def test_arrays_are_inputs_too(tmp_path: Path) -> None:
    """An input may come as an array; one of another size than its shape says is refused."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(2.0)})
    array = np.ones(8, np.float32)
    tensor = GivenTensor(name="x", dtype="float32", shape=(2, 4), data=array)
    with made.dispatcher.infer("team/linear", "", [tensor]) as answer:
        assert answer.outputs["y"].shape == (2, 4)
    wrong = GivenTensor(name="x", dtype="float32", shape=(3, 4), data=array)
    with (
        pytest.raises(UsageError, match="expects 12"),
        made.dispatcher.infer("team/linear", "", [wrong]),
    ):
        pass


def test_check_mode_refuses_memory_of_others(tmp_path: Path) -> None:
    """A tensor outside of the pool does not reach the engine, whoever put it there."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(2.0)})
    generation = made.table.find("team/linear", "")
    slot = generation.slots.take([(5, 4)])
    own = slot.inputs["x"]
    slot.inputs["x"] = np.ones((5, 4), np.float32)
    with pytest.raises(SlabError, match="'x'"):
        slot.run()
    slot.inputs["x"] = own
    own[:] = 1
    assert (slot.run()["y"] == 2).all()
    generation.slots.put_back(slot)
