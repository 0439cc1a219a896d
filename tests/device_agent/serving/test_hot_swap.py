"""The swapper in this process, driven by messages."""

from __future__ import annotations

import queue
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.config import ModelConfig
from device_agent.records import (
    PROTOCOL,
    Ask,
    Drop,
    Dropped,
    Hello,
    Message,
    Observed,
    Prepared,
    Switch,
    Switched,
)
from device_agent.serving import ModelTable, Swapper
from device_agent.serving.generation import Generation
from device_agent.serving.hot_swap import is_passing
from device_agent.serving.load import Loader, LoadOrder
from device_agent.serving.sequences import Sequence
from device_agent.store import Store
from edge_sdk.base import Digest
from edge_sdk.client import VersionNotActiveError
from edge_sdk.tensor_pool import TensorPool
from tests.support import onnx_models
from tests.support.held_models import hold, prepare
from tests.support.processes import wait_for

MODEL = "team/digits"


@dataclass
class Stage:
    """A swapper whose answers land in a queue."""

    store: Store
    table: ModelTable = field(default_factory=ModelTable)
    answers: queue.Queue[Message] = field(default_factory=queue.Queue)
    loader: Loader | None = None

    def __post_init__(self) -> None:
        self.table.set_ready()
        pool = TensorPool(budget_bytes=1 << 26, check=True)
        hello = Hello(protocol=PROTOCOL, pid=1, serving={}, damaged=())
        self.swapper = Swapper(
            self.table,
            self.loader or Loader(pool, threads=1),
            send=self.answers.put,
            hello=lambda: hello,
            observe_s=0.02,
        )

    def ask(self, message: Message) -> Message:
        self.swapper.handle(message)
        while isinstance(answer := self.answers.get(timeout=30), Observed):
            pass
        return answer


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(Store.create(tmp_path / "state"))
    made.swapper.start()
    yield made
    made.swapper.stop()


def test_prepare_switch_drop(stage: Stage) -> None:
    """The order of a switch: loaded beside, answers, the one before unloaded."""
    one = hold(stage.store, onnx_models.linear(1.0))
    two = hold(stage.store, onnx_models.linear(2.0), version="2.0.0")
    for artifact in (one, two):
        prepared = stage.ask(prepare(stage.store, artifact))
        assert isinstance(prepared, Prepared)
        assert prepared.ok
        assert prepared.load_ms > 0
        switched = stage.ask(Switch(model=MODEL, artifact=artifact, probation=False))
        assert switched == Switched(model=MODEL, artifact=artifact, ok=True)
    assert stage.table.find(MODEL, "").identity.artifact == two
    assert stage.ask(Drop(model=MODEL, artifact=one)) == Dropped(model=MODEL, artifact=one)
    back = stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    assert isinstance(back, Switched)
    assert not back.ok
    assert stage.table.find(MODEL, "").identity.artifact == two
    stage.ask(Drop(model=MODEL, artifact=None))
    assert stage.table.active() == ()


def test_requests_get_the_interpreter_sooner_while_it_works(tmp_path: Path) -> None:
    """And as before once nothing is to be done."""
    seen: list[float] = []

    class Watching(Loader):
        def load(self, order: LoadOrder) -> Generation:
            seen.append(sys.getswitchinterval())
            return super().load(order)

    store = Store.create(tmp_path / "state")
    pool = TensorPool(budget_bytes=1 << 26, check=True)
    made = Stage(store, loader=Watching(pool, threads=1))
    made.swapper.start()
    before_s = sys.getswitchinterval()
    made.ask(prepare(store, hold(store, onnx_models.linear(1.0))))
    made.swapper.stop()
    assert seen[0] < before_s / 5
    assert sys.getswitchinterval() == before_s


def test_answers_carry_the_number_of_their_order(stage: Stage) -> None:
    """Prepared, Switched and Observed name the order that they belong to, also where it
    failed."""
    one = hold(stage.store, onnx_models.linear(1.0))
    order = prepare(stage.store, one)
    switch = Switch(model=MODEL, artifact=one, probation=True)
    missing = msgspec.structs.replace(order, artifact=Digest.of(b"other"), entry="none.onnx")
    numbered = [
        stage.ask(msgspec.structs.replace(message, number=number))
        for number, message in enumerate([switch, missing, order, switch], start=7)
    ]
    assert [(type(one), one.ok, one.number) for one in numbered] == [  # type: ignore[union-attr]
        (Switched, False, 7),
        (Prepared, False, 8),
        (Prepared, True, 9),
        (Switched, True, 10),
    ]
    observed = stage.answers.get(timeout=30)
    assert isinstance(observed, Observed)
    assert observed.number == 10


def test_a_request_inside_keeps_its_generation(stage: Stage) -> None:
    """Dropped is said only when the last request has left; meanwhile others go on."""
    one = hold(stage.store, onnx_models.linear(1.0))
    stage.ask(prepare(stage.store, one))
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    inside = stage.table.enter(MODEL, "")
    stage.swapper.handle(Drop(model=MODEL, artifact=None))
    assert isinstance(stage.ask(Ask()), Hello)  # said after the Drop was begun
    assert stage.answers.empty()
    assert inside.session.inputs[0].name == "x"
    inside.leave()
    assert stage.answers.get(timeout=30) == Dropped(model=MODEL, artifact=None)


def test_what_serves_is_not_dropped_by_name(stage: Stage) -> None:
    """An updater that takes the serving artifact for spare (its active one was found damaged
    at the start) does not silence the model."""
    one = hold(stage.store, onnx_models.linear(1.0))
    stage.ask(prepare(stage.store, one))
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    assert stage.ask(Drop(model=MODEL, artifact=one)) == Dropped(model=MODEL, artifact=one)
    assert stage.table.find(MODEL, "").identity.artifact == one


def test_a_manifest_that_describes_another_model_is_refused(stage: Stage) -> None:
    """What the file holds must be what its manifest says."""
    one = hold(stage.store, onnx_models.linear(1.0))
    message = prepare(stage.store, one)
    other = onnx_models.save(onnx_models.nonzero(), stage.store.root / "other" / "model.onnx")
    answer = stage.ask(msgspec.structs.replace(message, folder=str(other.parent), golden_path=None))
    assert isinstance(answer, Prepared)
    assert not answer.ok
    assert answer.reason == "RefusedError"
    assert "manifest says" in answer.message


def test_an_engine_that_is_not_here_is_refused(stage: Stage) -> None:
    """The reason names what is missing."""
    one = hold(stage.store, onnx_models.linear(1.0))
    answer = stage.ask(msgspec.structs.replace(prepare(stage.store, one), engine="abacus"))
    assert isinstance(answer, Prepared)
    assert answer.reason == "NotFoundError"


def test_a_defect_in_loading_is_an_answer(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """An error that nobody foresaw is told to the updater, and the next message is obeyed."""
    one = hold(stage.store, onnx_models.linear(1.0))
    message = prepare(stage.store, one)
    stage.swapper._loader.load = None  # type: ignore[method-assign, assignment]
    answer = stage.ask(message)
    assert isinstance(answer, Prepared)
    assert (answer.ok, answer.reason) == (False, "Defect")
    assert "Traceback" in capfd.readouterr().err
    assert isinstance(stage.ask(Ask()), Hello)


def test_a_defect_in_a_swap_does_not_end_swaps(
    stage: Stage, capfd: pytest.CaptureFixture[str]
) -> None:
    """The thread goes on after an error that nobody foresaw."""
    one = hold(stage.store, onnx_models.linear(1.0))
    stage.ask(prepare(stage.store, one))
    right = stage.table.switch
    stage.table.switch = None  # type: ignore[method-assign, assignment]
    stage.swapper.handle(Switch(model=MODEL, artifact=one, probation=False))
    assert isinstance(stage.ask(Ask()), Hello)
    stage.table.switch = right  # type: ignore[method-assign]
    assert "Traceback" in capfd.readouterr().err
    switched = stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    assert isinstance(switched, Switched)
    assert switched.ok


def test_probation_observes_until_the_switch_back(stage: Stage) -> None:
    """Both versions are timed; a Switch back ends it; a Switch said twice goes on with it."""
    one = hold(stage.store, onnx_models.linear(1.0))
    two = hold(stage.store, onnx_models.linear(2.0), version="2.0.0")
    for artifact in (one, two):
        stage.ask(prepare(stage.store, artifact))
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    for _ in range(2):
        stage.ask(Switch(model=MODEL, artifact=two, probation=True))
        observed = stage.answers.get(timeout=30)
        assert isinstance(observed, Observed)
        assert observed.artifact == two
        assert len(observed.active_compute_ns) == len(observed.candidate_compute_ns) > 0
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    assert stage.table.find(MODEL, "").identity.artifact == one
    stage.ask(Ask())
    assert stage.answers.empty()


def test_a_repeated_switch_finds_the_other_version(stage: Stage) -> None:
    """An updater that was restarted mid-probation and asks again gets a comparison again."""
    one = hold(stage.store, onnx_models.linear(1.0))
    two = hold(stage.store, onnx_models.linear(2.0), version="2.0.0")
    for artifact in (one, two):
        stage.ask(prepare(stage.store, artifact))
        stage.ask(Switch(model=MODEL, artifact=artifact, probation=False))
    stage.ask(Switch(model=MODEL, artifact=two, probation=True))
    observed = stage.answers.get(timeout=30)
    assert isinstance(observed, Observed)
    assert observed.active_compute_ns
    stage.ask(Drop(model=MODEL, artifact=one))
    while not stage.answers.empty():
        stage.answers.get()
    assert isinstance(stage.ask(Ask()), Hello)
    assert stage.answers.empty()


def test_another_signature_is_not_compared(stage: Stage) -> None:
    """Where the golden inputs do not fit the version before, only the candidate is timed."""
    one = hold(stage.store, onnx_models.linear(1.0))
    two = hold(stage.store, onnx_models.linear(2.0, features=7), version="2.0.0")
    for artifact in (one, two):
        stage.ask(prepare(stage.store, artifact))
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    stage.ask(Switch(model=MODEL, artifact=two, probation=True))
    observed = stage.answers.get(timeout=30)
    assert isinstance(observed, Observed)
    assert observed.active_compute_ns == ()
    assert observed.candidate_compute_ns


def loaded(stage: Stage) -> tuple[Digest, Digest]:
    """Version 1 serves, version 2 is loaded."""
    one = hold(stage.store, onnx_models.linear(1.0))
    two = hold(stage.store, onnx_models.linear(2.0), version="2.0.0")
    for artifact in (one, two):
        stage.ask(prepare(stage.store, artifact))
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    return one, two


def beside(artifact: Digest, mode: str, *, number: int = 0) -> Switch:
    return Switch(
        model=MODEL, artifact=artifact, probation=True, mode=mode, share=0.25, number=number
    )


def answered(stage: Stage, count: int = 8, version: str = "") -> list[str]:
    """Versions of requests, as the table chooses them."""
    found = []
    for _ in range(count):
        generation = stage.table.enter(MODEL, version)
        found.append(generation.identity.version)
        generation.leave()
    return found


def test_a_canary_answers_its_share(stage: Stage) -> None:
    """Every fourth request, beside the version before; each can be demanded by its version;
    a switch to the candidate makes it answer all, one back lets it answer none."""
    one, two = loaded(stage)
    assert isinstance(stage.ask(beside(two, "canary")), Switched)
    assert answered(stage) == ["1.0.0", "1.0.0", "1.0.0", "2.0.0"] * 2
    assert answered(stage, 2, "2.0.0") == ["2.0.0"] * 2
    assert answered(stage, 2, "1.0.0") == ["1.0.0"] * 2
    assert stage.table.find(MODEL, "").identity.artifact == one
    stage.ask(Switch(model=MODEL, artifact=two, probation=False))
    assert set(answered(stage)) == {"2.0.0"}
    stage.ask(beside(one, "canary"))
    stage.ask(Switch(model=MODEL, artifact=two, probation=False))
    assert set(answered(stage)) == {"2.0.0"}


def test_a_canary_that_is_dropped_answers_nothing(stage: Stage) -> None:
    """Also without a switch before: nobody finds a retired one."""
    _, two = loaded(stage)
    stage.ask(beside(two, "canary"))
    assert isinstance(stage.ask(Drop(model=MODEL, artifact=two)), Dropped)
    assert set(answered(stage)) == {"1.0.0"}


def test_a_shadow_answers_nothing(stage: Stage) -> None:
    """All requests stay with the version before, and the candidate cannot be demanded."""
    _, two = loaded(stage)
    stage.ask(beside(two, "shadow"))
    assert set(answered(stage)) == {"1.0.0"}
    with pytest.raises(VersionNotActiveError):
        stage.table.find(MODEL, "2.0.0")


@pytest.mark.parametrize("mode", ["canary", "shadow"])
def test_copies_of_requests_are_observed_as_pairs(stage: Stage, mode: str) -> None:
    """What one side is asked runs on both; asked again, an updater gets the same comparison;
    after the switch nobody copies."""
    one, two = loaded(stage)
    stage.ask(beside(two, mode))
    before = stage.table.find(MODEL, "")
    watched = stage.swapper._watched[MODEL]
    asked = watched.candidate if mode == "canary" else before
    assert asked.copies is watched.mirror is not None
    for value in (0, 1):
        asked.copies.offer({"x": np.full((1, 4), value, np.float32)})
    observed = wait_for(
        lambda: next((o for o in drain(stage) if o.mirrored == 2), None), "what was seen"
    )
    assert (observed.agreed, observed.rows, observed.dropped) == (1, 2, 0)
    assert observed.requests == (2 if mode == "shadow" else 0)
    assert observed.before_requests == 0
    stage.ask(beside(two, mode, number=9))
    assert stage.swapper._watched[MODEL] is watched
    again = stage.answers.get(timeout=30)
    assert isinstance(again, Observed)
    assert (again.number, again.mirrored) == (9, 2)
    stage.ask(Switch(model=MODEL, artifact=two, probation=False))
    assert asked.copies is None
    assert isinstance(stage.ask(Drop(model=MODEL, artifact=one)), Dropped)


def drain(stage: Stage) -> list[Observed]:
    found = []
    while not stage.answers.empty():
        message = stage.answers.get()
        assert isinstance(message, Observed)
        found.append(message)
    return found


def test_a_mode_may_change_while_it_stands_beside(stage: Stage) -> None:
    """From canary to shadow: the share ends, another comparison begins."""
    _, two = loaded(stage)
    stage.ask(beside(two, "canary"))
    stage.ask(beside(two, "shadow"))
    assert set(answered(stage)) == {"1.0.0"}
    assert stage.swapper._watched[MODEL].mode == "shadow"


def test_with_other_inputs_nothing_is_sent_to_it(stage: Stage) -> None:
    """A candidate that does not take what the version before takes gets no requests."""
    one = hold(stage.store, onnx_models.linear(1.0))
    two = hold(stage.store, onnx_models.linear(2.0, features=7), version="2.0.0")
    for artifact in (one, two):
        stage.ask(prepare(stage.store, artifact))
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    stage.ask(beside(two, "canary"))
    assert set(answered(stage)) == {"1.0.0"}
    observed = stage.answers.get(timeout=30)
    assert isinstance(observed, Observed)
    assert (observed.requests, observed.mirrored) == (0, 0)


def test_what_is_asked_now_is_bound_before_the_switch(stage: Stage) -> None:
    """Shapes that requests have beyond the golden sample's: no request binds them again; what
    the candidate does not take does not keep it from being loaded."""
    one = hold(stage.store, onnx_models.linear(1.0))
    two = hold(stage.store, onnx_models.linear(2.0), version="2.0.0")
    other = hold(stage.store, onnx_models.linear(3.0, features=7), version="3.0.0")
    stage.ask(prepare(stage.store, one))
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    serving = stage.table.find(MODEL, "")
    slots = [serving.slots.take([(rows, 4)]) for rows in (3, 5)]
    for slot in slots:
        serving.slots.put_back(slot)
    for artifact, wanted in ((two, {(1, 4), (3, 4), (5, 4)}), (other, {(1, 7)})):
        prepared = stage.ask(prepare(stage.store, artifact))
        assert isinstance(prepared, Prepared)
        assert prepared.ok
        bound = stage.swapper._loaded[MODEL, artifact].slots.shapes()
        assert {key[0] for key in bound} == wanted


def test_idle_sequences_are_swept_without_requests(tmp_path: Path) -> None:
    """Their memory comes back though nobody asks for anything any more."""
    settings = {MODEL: ModelConfig(states={"sum": "sum.next"}, states_idle_s=0.001)}
    pool = TensorPool(budget_bytes=1 << 26)
    stage = Stage(
        Store.create(tmp_path / "states"), loader=Loader(pool, threads=1, models=settings)
    )
    stage.swapper.start()
    one = hold(stage.store, onnx_models.remembering())
    stage.ask(prepare(stage.store, one))
    stage.ask(Switch(model=MODEL, artifact=one, probation=False))
    states = stage.table.find(MODEL, "").states
    assert states is not None
    with states.turn(Sequence(id=1, start=True), {"x": (1, 2)}) as turn:
        turn.keep({"sum.next": np.ones((1, 2), np.float32)})
    wait_for(lambda: states.size_bytes == 0, "the sweep")
    stage.swapper.stop()


def test_where_nothing_serves_a_canary_takes_over(stage: Stage) -> None:
    """There is nothing to stand beside."""
    one = hold(stage.store, onnx_models.linear(1.0))
    stage.ask(prepare(stage.store, one))
    stage.ask(beside(one, "canary"))
    assert stage.table.find(MODEL, "").identity.artifact == one


def test_only_observations_may_be_lost() -> None:
    """Every other message must reach the updater."""
    digest = Digest.of(b"")
    assert not is_passing(Dropped(model=MODEL, artifact=digest))
    assert is_passing(
        Observed(
            model=MODEL,
            artifact=digest,
            requests=0,
            errors=0,
            active_compute_ns=(),
            candidate_compute_ns=(),
            rss_bytes=0,
        )
    )
