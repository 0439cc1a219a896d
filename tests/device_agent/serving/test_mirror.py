"""Requests run on two versions, beside what serves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from device_agent.serving import mirror as module
from device_agent.serving.generation import Generation
from device_agent.serving.mirror import Mirror, can_stand_in
from device_agent.serving.request import GivenTensor
from edge_sdk.engines import EngineError
from edge_sdk.manifest import Tolerance
from tests.support import onnx_models
from tests.support.processes import wait_for
from tests.support.serving_door import Serving, serving

EXACT = {"y": Tolerance(atol="0", rtol="0")}
Make = Callable[[float], Mirror]


@pytest.fixture
def made(tmp_path: Path) -> Serving:
    return serving(tmp_path)


@pytest.fixture
def before(made: Serving) -> Generation:
    return made.load("team/linear", onnx_models.linear(1.0))


@pytest.fixture
def mirror(made: Serving, before: Generation) -> Iterator[Make]:
    """Makes one with a candidate of the scale given."""
    kept: list[Mirror] = []

    def make(scale: float) -> Mirror:
        candidate = made.load("team/linear", onnx_models.linear(scale), "2.0.0")
        kept.append(Mirror(before, candidate, EXACT))
        return kept[-1]

    yield make
    for one in kept:
        one.close()


def offer(one: Mirror, *values: float) -> None:
    """Each request's turn comes before the next is offered."""
    for value in values:
        runs = one.compared().runs
        one.offer({"x": np.full((1, 4), value, np.float32)})
        wait_for(lambda runs=runs: one.compared().runs > runs, "the comparison", every_s=0.001)


def test_outputs_and_times_are_compared(mirror: Make) -> None:
    """Each request gives a pair of times, taken once; where all outputs are the same it
    agrees."""
    one = mirror(2.0)
    offer(one, 0, 1, 2)
    seen = one.compared()
    assert (seen.runs, seen.compared, seen.agreed) == (3, 3, 1)
    assert (seen.rows, seen.rows_agreed) == (3, 3)  # the first of equal columns, on both
    assert seen.difference_max == 2.0
    pairs = one.take_times()
    assert [len(side) for side in pairs] == [3, 3]
    assert all(ns > 0 for side in pairs for ns in side)
    assert one.take_times() == ((), ())


def test_inputs_are_copied_when_they_are_offered(mirror: Make) -> None:
    """What a request's buffers hold later is the next one's."""
    one = mirror(1.0)
    held: list[module.Inputs] = []
    one._before.run = held.append  # type: ignore[method-assign]
    x = np.ones((1, 4), np.float32)
    one.offer({"x": x})
    x[:] = 7
    wait_for(lambda: held, "the run")
    assert (held[0]["x"] == 1).all()


def test_what_it_cannot_keep_up_with_is_dropped_and_counted(
    mirror: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one comparison is stuck, so many wait, and offering never does."""
    gate, inside = threading.Event(), threading.Event()
    one = mirror(1.0)
    run = one._candidate.run

    def stuck(inputs: module.Inputs) -> None:
        inside.set()
        gate.wait(20)
        run(inputs)

    one._candidate.run = stuck  # type: ignore[method-assign]
    x = {"x": np.ones((1, 4), np.float32)}
    one.offer(x)
    assert inside.wait(20)
    for _ in range(module.PENDING_MAX + 5):
        one.offer(x)
    assert one.compared().dropped == 5
    gate.set()
    wait_for(lambda: one.compared().runs == 1 + module.PENDING_MAX, "those that waited")
    monkeypatch.setattr(module, "PENDING_BYTES_MAX", 15)
    one.offer(x)
    assert one.compared().dropped == 6


def test_failures_are_counted_by_side(mirror: Make) -> None:
    """A run that fails is an error of its version, and no comparison."""
    one = mirror(1.0)
    offer(one, 1)
    for side, what in ((one._candidate, "candidate_errors"), (one._before, "before_errors")):
        right = side._binding

        def failing(inputs: object) -> None:
            raise EngineError("as the test wants")

        side._binding = failing  # type: ignore[method-assign, assignment]
        offer(one, 1)
        assert getattr(one.compared(), what) == 1
        side._binding = right  # type: ignore[method-assign]
    assert (one.compared().runs, one.compared().compared) == (3, 1)


def test_a_defect_costs_one_comparison(mirror: Make, capfd: pytest.CaptureFixture[str]) -> None:
    """The thread goes on after an error that nobody foresaw."""
    one = mirror(1.0)
    right, told = one._note, []

    def defect() -> None:
        if not told:
            told.append(True)
            raise ZeroDivisionError
        right()

    one._note = defect  # type: ignore[method-assign]
    one.offer({"x": np.ones((1, 4), np.float32)})
    offer(one, 1)
    assert one.compared().runs == 1
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_nothing_holds_on_to_a_version_after_the_end(mirror: Make) -> None:
    """Bindings keep a session in memory; ``close`` lets them go, and takes nothing more."""
    one = mirror(1.0)
    offer(one, 1)
    assert one._candidate._bound
    one.close()
    one.close()
    assert not one._candidate._bound
    assert one._candidate.outputs is None
    one.offer({"x": np.ones((1, 4), np.float32)})
    assert one.compared().dropped == 1


def test_requests_of_a_dispatcher_are_mirrored(made: Serving, before: Generation) -> None:
    """Each run's inputs, once its answer was used, and none where nobody compares."""
    made.table.switch(before)
    candidate = made.load("team/linear", onnx_models.linear(2.0), "2.0.0")
    one = Mirror(before, candidate, EXACT)
    given = [
        GivenTensor(name="x", dtype="float32", shape=(1, 4), data=np.ones(4, np.float32).tobytes())
    ]
    for copies in (None, one, None):
        before.copies = copies
        with made.dispatcher.infer("team/linear", "", given) as answer:
            assert (answer.outputs["y"] == 1).all()
            assert one.compared().runs == 0 or copies is None
    wait_for(lambda: one.compared().runs == 1, "the comparison")
    one.close()
    assert one.compared().difference_max == 1.0


def test_who_can_stand_in(made: Serving, before: Generation) -> None:
    """Whoever takes every request of the other, and has its outputs."""
    for model, can in (
        (onnx_models.linear(3.0), True),
        (onnx_models.linear(3.0, features=5), False),
        (onnx_models.nonzero(), False),
    ):
        other = made.load("team/other", model)
        assert can_stand_in(before.session, other.session) is can
        other.close()
