"""Dispatching: turns, checks, and what a request leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from device_agent.config import ModelConfig
from device_agent.serving import together
from device_agent.serving.answer import HeldSlot
from device_agent.serving.cache import ResponseCache
from device_agent.serving.generation import Generation
from device_agent.serving.request import GivenTensor, Request
from device_agent.serving.scheduling import BatchCosts
from device_agent.serving.scheduling.batching import sizes
from device_agent.serving.slots import BoundSlot
from edge_sdk.base import ResourceError, UsageError
from edge_sdk.engines import EngineError
from edge_sdk.engines.contract import Array, Shape
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


def test_check_mode_finds_answers_that_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What naive code answers with, an array of its own, does not leave the dispatcher."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(2.0)})
    monkeypatch.setattr(BoundSlot, "run", lambda _: {"y": np.ones((1, 4), np.float32)})
    with (
        pytest.raises(SlabError, match="'y' does not lie in the pool"),
        made.dispatcher.infer("team/linear", "", [given()]),
    ):
        pass


def test_waiting_requests_of_one_model_run_together(tmp_path: Path) -> None:
    """While both turns are taken, rows of seven requests wait; one run answers each with its own,
    and one that asks for other shapes runs apart."""
    name = "team/together"
    made = serving(
        tmp_path,
        {name: onnx_models.linear(3.0)},
        settings={name: ModelConfig(batch_max=16, runs_max=1)},
    )
    generation = made.table.find(name, "")
    generation.batch_costs = costs_that_favour(16)
    got: dict[int, bool] = {}

    def work(number: int) -> None:
        tensor = given(1 + number % 3, float(number))
        with made.dispatcher.infer(name, "", [tensor], timeout_s=30, wanted=["y"]) as answer:
            whole = answer.outputs["y"].shape == (1 + number % 3, 4)
            got[number] = whole and bool((answer.outputs["y"] == 3 * number).all())

    runs = counted_runs(generation)
    made.take_all_turns()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(7)]
    for thread in threads:
        thread.start()
    wait_for(lambda: sum(made.dispatcher.scheduler.load().waiting) == 7, "seven requests")
    made.free_all_turns()
    for thread in threads:
        thread.join(30)
    assert got == dict.fromkeys(range(7), True)
    assert runs == [13]
    served = generation.statistics.snapshot()
    assert served.requests == 7
    before = made.pool.statistics().slabs_used
    for number in range(3):
        work(number)
    assert made.pool.statistics().slabs_used == before  # its buffers came back
    done: list[bool] = []
    generation.retire(lambda: done.append(True))
    assert done == [True]  # every request has left


def test_a_turn_together_ends_when_all_are_answered(tmp_path: Path) -> None:
    """Who waits behind a run of two has no turn before both are answered, also where one of the
    answers cannot be made."""
    name = "team/linear"
    made = serving(
        tmp_path, {name: onnx_models.linear(2.0)}, settings={name: ModelConfig(batch_max=2)}
    )
    generation = made.table.find(name, "")
    generation.batch_costs = costs_that_favour(2)
    runs = counted_runs(generation)
    scheduler, go = made.dispatcher.scheduler, threading.Event()
    held: list[int] = []

    def work(number: int) -> None:
        with made.dispatcher.infer(name, "", [given()], timeout_s=30) as answer:
            held.append(number)
            go.wait(30)
            assert answer.outputs["y"].shape == (1, 4)

    def asked(number: int) -> threading.Thread:
        thread = threading.Thread(target=work, args=(number,))
        thread.start()
        wait_for(lambda: sum(scheduler.load().waiting) == number, "it to wait")
        return thread

    made.take_all_turns()
    threads = [asked(1), asked(2)]
    made.free_all_turns()
    wait_for(lambda: len(held) == 2, "two answers")
    threads.append(asked(1))
    assert (scheduler.load().running, runs) == (1, [2])
    go.set()
    for thread in threads:
        thread.join(30)
    assert (scheduler.load().running, runs) == (0, [2, 1])


def test_an_answer_that_cannot_be_made_holds_nobody_up(tmp_path: Path) -> None:
    """Of two that ran together one fails at its answer: turn and buffers come back all the same."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(2.0)})
    generation = made.table.find("team/linear", "")
    slot = generation.slots.take([(2, 4)])
    slot.run()
    request = Request(model="team/linear", version="", inputs=[given()])
    request.fit(generation)
    ended: list[bool] = []
    run = together.Together(
        slot=slot,
        held=HeldSlot(slot, 2, lambda: ended.append(True)),
        outputs={},  # what the request asks for is not there
        batch=2,
        times_ns=(0, 0, 0),
    )
    for _ in range(2):
        assert not ended
        with pytest.raises(KeyError):
            run.answer(generation, request, 0, 0)
    assert ended == [True]
    assert generation.slots.take([(2, 4)]) is slot


def test_a_run_together_that_fails_is_made_one_by_one(tmp_path: Path) -> None:
    """What fails for all may be one request's fault: the others have their answers."""
    name = "team/together"
    made = serving(
        tmp_path,
        {name: onnx_models.linear(3.0)},
        settings={name: ModelConfig(batch_max=16, runs_max=1)},
    )
    generation = made.table.find(name, "")
    generation.batch_costs = costs_that_favour(16)
    outcomes: dict[int, object] = {}

    def work(number: int) -> None:
        tensor = given(1, float(number))
        try:
            with made.dispatcher.infer(name, "", [tensor], timeout_s=30) as answer:
                outcomes[number] = float(answer.outputs["y"][0, 0])
        except EngineError as error:
            outcomes[number] = error.message

    poisoned_runs(generation, poison=2.0)
    made.take_all_turns()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: sum(made.dispatcher.scheduler.load().waiting) == 4, "four requests")
    made.free_all_turns()
    for thread in threads:
        thread.join(30)
    assert outcomes == {0: 0.0, 1: 3.0, 2: "poisoned", 3: 9.0}
    assert made.dispatcher.scheduler.load().running == 0


def test_who_waits_for_a_cached_run_together_waits_for_no_turn(tmp_path: Path) -> None:
    """As for one that runs alone: once requests run together, the time of an identical one
    bounds a wait that is over, whichever of them it waits for."""
    name, cache = "team/together", ResponseCache(1 << 20)
    made = serving(
        tmp_path,
        {name: onnx_models.linear(3.0)},
        settings={name: ModelConfig(batch_max=16, runs_max=1)},
        caches={name: cache},
    )
    generation = made.table.find(name, "")
    generation.batch_costs = costs_that_favour(16)
    runs, go = counted_runs(generation), threading.Event()
    take = generation.slots.take
    generation.slots.take = lambda shapes: go.wait(30) and take(shapes)  # type: ignore[method-assign]
    outcomes: list[float] = []

    def work(value: float, timeout_s: float) -> None:
        with made.dispatcher.infer(name, "", [given(1, value)], timeout_s=timeout_s) as answer:
            outcomes.append(float(answer.outputs["y"][0, 0]))

    def asked(value: float, timeout_s: float) -> threading.Thread:
        thread = threading.Thread(target=work, args=(value, timeout_s))
        thread.start()
        return thread

    made.take_all_turns()
    threads = [asked(value, 30) for value in (1.0, 2.0)]
    wait_for(lambda: sum(made.dispatcher.scheduler.load().waiting) == 2, "two requests")
    made.free_all_turns()
    wait_for(lambda: not sum(made.dispatcher.scheduler.load().waiting), "their run")
    wait_for(lambda: all(one.running for one in cache._flights.values()), "the word of both")
    threads += [asked(value, 0.01) for value in (1.0, 2.0)]
    wait_for(lambda: sum(one.followers for one in cache._flights.values()) == 2, "the hasty ones")
    threads[-1].join(0.05)  # their time is over
    go.set()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == [3.0, 3.0, 6.0, 6.0]
    assert runs == [2]


def costs_that_favour(rows: int) -> BatchCosts:
    costs = BatchCosts(rows)
    for size in sizes(rows):
        costs.measured(size, 1000)
    return costs


def counted_runs(generation: Generation) -> list[int]:
    """Rows of each run from here on."""
    runs: list[int] = []
    take = generation.slots.take

    def counted(shapes: Sequence[Shape]) -> BoundSlot:
        runs.append(shapes[0][0])
        return take(shapes)

    generation.slots.take = counted  # type: ignore[method-assign]
    return runs


def poisoned_runs(generation: Generation, *, poison: float) -> None:
    """A run with that number among its inputs fails."""
    take = generation.slots.take

    def taken(shapes: Sequence[Shape]) -> BoundSlot:
        slot = take(shapes)
        run = type(slot).run

        def checked() -> Mapping[str, Array]:
            if (slot.inputs["x"] == poison).any():
                raise EngineError("poisoned")
            return run(slot)

        slot.run = checked  # type: ignore[method-assign]
        return slot

    generation.slots.take = taken  # type: ignore[method-assign]


def test_no_elements_of_a_shape_that_no_memory_holds(tmp_path: Path) -> None:
    """A size of 0 does not make every other size possible."""
    made = serving(tmp_path, {"team/any": onnx_models.identity(TensorProto.FLOAT, ("n", "m"))})
    for shape in ((2**62, 0), (0, 2**62)):
        given = GivenTensor(name="x", dtype="float32", shape=shape, data=b"")
        with (
            pytest.raises(UsageError, match="no memory holds"),
            made.dispatcher.infer("team/any", "", [given]),
        ):
            pass
    given = GivenTensor(name="x", dtype="float32", shape=(0, 7), data=b"")
    with made.dispatcher.infer("team/any", "", [given]) as answer:
        assert answer.outputs["y"].shape == (0, 7)


def test_no_memory_for_a_copy_leaves_nobody_inside(tmp_path: Path) -> None:
    """Where the inputs cannot be copied for a candidate, buffers and counts are as after any
    other request."""
    made = serving(tmp_path, {"team/linear": onnx_models.linear(2.0)})
    generation = made.table.find("team/linear", "")

    class Full:
        def offer(self, inputs: Mapping[str, Array]) -> None:
            raise MemoryError

    with made.dispatcher.infer("team/linear", "", [given()]):
        pass
    used = made.pool.statistics().slabs_used
    generation.copies = Full()
    answer = made.dispatcher.infer("team/linear", "", [given()])
    with pytest.raises(MemoryError):
        answer.close()
    assert generation.in_flight == 0
    generation.copies = None
    with made.dispatcher.infer("team/linear", "", [given()]):
        pass
    assert made.pool.statistics().slabs_used == used
