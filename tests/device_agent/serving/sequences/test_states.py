"""States between requests: order, budget, idleness, and what a failure leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device_agent.serving.sequences import Sequence, SequenceStates
from edge_sdk.base import ResourceError, UnavailableError, UsageError
from edge_sdk.client import SequenceNotStartedError
from edge_sdk.engines import EngineError
from edge_sdk.manifest import TensorSpec
from edge_sdk.tensor_pool import TensorPool
from tests.support.processes import wait_for

MODEL = "team/steps"
ROOM = 1 << 20
X = {"x": (1, 2)}


class Steps:
    """What the store needs to know of a model: a sum, and a cache that grows by a row."""

    inputs = (
        TensorSpec(name="x", dtype="float32", shape=(-1, 2)),
        TensorSpec(name="sum", dtype="float32", shape=(-1, 2)),
        TensorSpec(name="cache", dtype="float32", shape=(-1, -1, 2)),
    )
    outputs = (
        TensorSpec(name="y", dtype="float32", shape=(-1, 2)),
        TensorSpec(name="sum.next", dtype="float32", shape=(-1, 2)),
        TensorSpec(name="cache.next", dtype="float32", shape=(-1, -1, 2)),
    )


def make(**settings: Any) -> SequenceStates:
    wanted: dict[str, Any] = {"starts": {}, "budget_bytes": ROOM, "idle_s": 60, **settings}
    pool = wanted.pop("pool", None) or TensorPool(budget_bytes=1 << 24, check=True)
    states = {"sum": "sum.next", "cache": "cache.next"}
    return SequenceStates(MODEL, Steps(), pool, states, **wanted)  # type: ignore[arg-type]


def run(arrays: Mapping[str, NDArray[Any]], x: float) -> dict[str, NDArray[Any]]:
    """The model: y depends on every step so far."""
    row = np.full((1, 2), x, np.float32)
    total = arrays["sum"] * np.float32(0.5) + row
    cache = np.concatenate([arrays["cache"], row[:, None]], axis=1)
    return {"y": total + cache.sum(axis=1), "sum.next": total, "cache.next": cache}


def ask(states: SequenceStates, one: Sequence, x: float, **more: Any) -> float:
    with states.turn(one, X, **more) as turn:
        outputs = run(turn.arrays, x)
        turn.keep(outputs)
        return float(outputs["y"][0, 0])


def start(one: int | str) -> Sequence:
    return Sequence(id=one, start=True)


def test_states_leave_the_signature() -> None:
    """Clients give and get what is no state."""
    states = make()
    assert [spec.name for spec in states.inputs] == ["x"]
    assert [spec.name for spec in states.outputs] == ["y"]
    states.check_given({"x": (1, 2), "sum": (1, 2), "cache": (1, 0, 2)})
    with pytest.raises(UsageError, match="correlation ID"):
        states.check_given({"x": (1, 2), "sum": (1, 2)})


def test_a_sequence_needs_a_start() -> None:
    """Without one: Triton's words, and an error of its own class."""
    states = make()
    with pytest.raises(SequenceNotStartedError) as refused:
        ask(states, Sequence(id=42), 1)
    assert refused.value.message == (
        "inference request for sequence 42 to model 'team/steps' must specify the START flag on "
        "the first request of the sequence"
    )
    assert refused.value.facts == {"sequence": 42, "why": ""}
    assert not states.knows(42)


def test_the_end_lets_the_state_go() -> None:
    """All slabs are back in the pool after the last request; what comes then must start."""
    pool = TensorPool(budget_bytes=1 << 20, check=True)
    states = make(pool=pool)
    ask(states, start("a"), 1)
    assert pool.statistics().slabs_used == 2
    ask(states, Sequence(id="a", end=True), 1)
    assert (pool.statistics().slabs_used, states.size_bytes, len(states)) == (0, 0, 0)
    with pytest.raises(SequenceNotStartedError):
        ask(states, Sequence(id="a"), 1)


def test_a_number_and_its_text_are_two_sequences() -> None:
    """7 and "7" do not meet."""
    states = make()
    ask(states, start(7), 1)
    with pytest.raises(SequenceNotStartedError):
        ask(states, Sequence(id="7"), 1)


def test_a_failed_run_leaves_the_state_before() -> None:
    """Also where it was to start or to end the sequence, or its outputs do not fit."""
    states = make()
    ask(states, start(1), 1)
    for flags in ({}, {"start": True}, {"end": True}):
        with (
            pytest.raises(EngineError, match="as the test wants"),
            states.turn(Sequence(id=1, **flags), X),
        ):
            raise EngineError("as the test wants")
    with (
        pytest.raises(EngineError, match=r"sum\.next"),
        states.turn(Sequence(id=1), X) as turn,
    ):
        turn.keep({**run(turn.arrays, 9), "sum.next": np.zeros((1, 3), np.float32)})
    other = make()
    ask(other, start(1), 1)
    assert ask(states, Sequence(id=1), 2) == ask(other, Sequence(id=1), 2)


def test_a_failed_start_starts_nothing() -> None:
    """The sequence is as unknown as before."""
    states = make()
    with pytest.raises(EngineError), states.turn(start(1), X):
        raise EngineError("as the test wants")
    assert len(states) == 0
    with pytest.raises(SequenceNotStartedError):
        ask(states, Sequence(id=1), 1)


def test_the_one_unused_longest_goes_first() -> None:
    """Beyond the budget its state is let go, and its next request is told why."""
    states = make(budget_bytes=3 * (1024 + 2 * 64))
    for one in (1, 2, 3):
        ask(states, start(one), one)
    ask(states, Sequence(id=1), 1)
    ask(states, start(4), 4)
    with pytest.raises(SequenceNotStartedError, match="needed its memory"):
        ask(states, Sequence(id=2), 2)
    for one in (1, 3, 4):
        assert states.knows(one)
    ask(states, start(2), 1)  # told once, it may begin again
    assert states.size_bytes <= 3 * (1024 + 2 * 64)


def test_a_state_larger_than_the_budget_is_refused() -> None:
    """The request that made it grow fails; the state is what it was, and others live."""
    states = make(budget_bytes=1024 + 64 + 64)
    ask(states, start(1), 1)
    for step in range(7):
        ask(states, Sequence(id=1), step)
    with pytest.raises(ResourceError, match="needs 1216 bytes"):
        ask(states, Sequence(id=1), 9)
    with states.turn(Sequence(id=1), X) as turn:
        assert turn.arrays["cache"].shape == (1, 8, 2)


def test_a_pool_without_memory_leaves_the_state() -> None:
    """Where there is no slab for the next state, nothing of it is kept."""
    pool = TensorPool(budget_bytes=1 << 16)
    states = make(pool=pool)
    ask(states, start(1), 1)
    held = [pool.acquire(64) for _ in range((1 << 16) // 64 - 2)]
    with pytest.raises(ResourceError):
        ask(states, Sequence(id=1), 2)
    held.pop().release()
    other = make()
    ask(other, start(1), 1)
    assert ask(states, Sequence(id=1), 3) == ask(other, Sequence(id=1), 3)


def test_idle_sequences_are_let_go() -> None:
    """After ``idle_s`` without a request; each request counts anew."""
    now = [0.0]
    states = make(idle_s=10, now_s=lambda: now[0])
    ask(states, start(1), 1)
    ask(states, start(2), 1)
    now[0] = 6.0
    ask(states, Sequence(id=1), 1)
    now[0] = 12.0
    states.sweep()
    assert (states.knows(1), states.knows(2)) == (True, False)
    with pytest.raises(SequenceNotStartedError, match="idle for 10 s"):
        ask(states, Sequence(id=2), 1)


def test_another_artifact_says_why_there_is_no_state() -> None:
    """A switch ends sequences: the next artifact knows that they were, and is asked to start."""
    before, after = make(), make()
    ask(before, start(1), 1)
    before.end_all(after)
    with pytest.raises(SequenceNotStartedError, match="another version serves now"):
        ask(after, Sequence(id=1), 1)
    ask(after, start(1), 1)
    before.close()
    assert before.size_bytes == 0


def test_requests_of_one_sequence_run_in_their_order() -> None:
    """While one runs, others of the sequence wait, and go on in the order in which they came;
    another sequence does not wait."""
    states = make()
    ask(states, start(1), 0)
    order: list[int] = []

    def later(number: int) -> None:
        with states.turn(Sequence(id=1), X) as turn:
            order.append(number)
            turn.keep(run(turn.arrays, number))

    threads = []
    with states.turn(Sequence(id=1), X) as turn:
        for number in range(5):
            threads.append(threading.Thread(target=later, args=(number,)))
            threads[-1].start()
            wait_for(
                lambda wanted=number + 1: len(states._states[1].waiting) == wanted, "it to wait"
            )
        with pytest.raises(UnavailableError, match="timeout expired"):
            ask(states, Sequence(id=1), 7, timeout_s=0.001)
        ask(states, start(2), 1)
        assert order == []
        turn.keep(run(turn.arrays, 1))
    for thread in threads:
        thread.join(20)
    assert order == list(range(5))


def test_a_caller_that_leaves_does_not_wait() -> None:
    """Whoever hung up before its turn is told so at once, and those behind it move up; after
    its turn came it is too late."""
    states = make()
    ask(states, start(1), 0)
    then: list[Callable[[], None]] = []
    told: list[object] = []

    def registered(leave: Callable[[], None]) -> bool:
        then.append(leave)
        return True

    def wait() -> None:
        try:
            told.append(ask(states, Sequence(id=1), 1, when_gone=registered))
        except UnavailableError as error:
            told.append(error.message)

    with states.turn(Sequence(id=1), X) as turn:
        threads = [threading.Thread(target=wait) for _ in range(2)]
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_for(lambda wanted=number: len(then) == wanted, "it to wait")
        then[0]()
        wait_for(lambda: told, "the first to be told")
        assert told == ["nobody waits for this request any more"]
        with pytest.raises(UnavailableError, match="nobody waits"):
            ask(states, Sequence(id=1), 1, when_gone=lambda _: False)
        turn.keep(run(turn.arrays, 1))
    for thread in threads:
        thread.join(20)
    then[1]()
    assert told[1:] == [0.5 + 1 + 1 + 1]


def test_a_queue_of_one_sequence_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than that many are refused at once."""
    from device_agent.serving.sequences import states as module

    monkeypatch.setattr(module, "WAITING_MAX", 0)
    states = make()
    with (
        states.turn(start(1), X),
        pytest.raises(UnavailableError, match="maximum queue size of 0"),
    ):
        ask(states, start(1), 1)


STEP = st.tuples(
    st.integers(0, 3),
    st.floats(-4, 4, width=16),
    st.sampled_from(["go", "go", "go", "start", "end", "fail"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEP, max_size=40), st.integers(1, 5))
def test_any_interleaving_gives_what_each_sequence_gives_alone(
    steps: list[tuple[int, float, str]], room: int
) -> None:
    """Whatever sequences run between each other, fail, and are evicted: an answer is bit for
    bit that of the sequence alone, or the error that says to start again."""
    states = make(budget_bytes=room * (1024 + 3 * 64))
    alone: dict[int, list[float]] = {}
    for one, x, what in steps:
        sequence = Sequence(id=one, start=what == "start", end=what == "end")
        fits = not sequence.start and one in alone
        steps_before = alone.get(one, []) if fits else []
        try:
            if what == "fail":
                with states.turn(sequence, X):
                    raise EngineError("as the test wants")
            got = ask(states, sequence, x)
        except EngineError:
            continue
        except SequenceNotStartedError as error:
            assert not sequence.start
            assert one not in alone or error.facts["why"]
            alone.pop(one, None)
            continue
        except ResourceError:
            assert len(steps_before) > 8  # the cache has grown out of the smallest budget
            continue
        assert sequence.start or one in alone
        done = [*steps_before, x]
        arrays = {"sum": np.zeros((1, 2), np.float32), "cache": np.zeros((1, 0, 2), np.float32)}
        for value in done:
            outputs = run(arrays, value)
            arrays = {"sum": outputs["sum.next"], "cache": outputs["cache.next"]}
        assert got == float(outputs["y"][0, 0])
        if sequence.end:
            alone.pop(one, None)
        else:
            alone[one] = done
    states.close()
    assert states._pool.statistics().slabs_used == 0


def test_patience_without_end_is_as_none() -> None:
    """More seconds than a lock can wait: it waits, and the sequence goes on afterwards."""
    states = make()
    ask(states, start(1), 1.0)
    got: list[float] = []
    with states.turn(Sequence(id=1), X):
        patient = threading.Thread(
            target=lambda: got.append(ask(states, Sequence(id=1), 1.0, timeout_s=9.2e12))
        )
        patient.start()
        wait_for(lambda: states._states[1].waiting, "the second request")
    patient.join(20)
    assert got
    ask(states, Sequence(id=1), 1.0, timeout_s=0)
