"""What inference says: deaths while it loads, and answers that come too late."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from device_agent.records import Hello, Prepare, Prepared, Switched
from device_agent.store import Store
from device_agent.updater.trial_values import TrialOutcome
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig

MODEL = "team/digits"
V1 = model_artifact(linear(1.0), version="1.0.0")
V2 = model_artifact(linear(2.0), version="2.0.0")


@pytest.fixture
def on_v1(rig: Rig) -> Iterator[Rig]:
    """A device that runs version 1, committed."""
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    yield rig


def test_a_candidate_that_kills_inference_while_it_loads_is_given_up(on_v1: Rig) -> None:
    """One death may have another cause; a second one is the candidate's, and ends it: what
    serves would otherwise be torn down again and again."""
    inference = on_v1.inference
    assert inference is not None
    answer = inference._answer

    def dying(message: object) -> None:
        if isinstance(message, Prepare) and message.artifact == V2.artifact:
            inference.crash()
        else:
            answer(message)  # type: ignore[arg-type]

    inference._answer = dying  # type: ignore[method-assign]
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "failed"
    event = on_v1.server.last_event(V2)
    assert event is not None
    assert event.reason == "CandidateRefusedError"
    assert len([one for one in inference.kinds(Prepare) if one.artifact == V2.artifact]) == 2
    assert on_v1.active() == V1.artifact


def test_an_answer_to_a_question_of_an_older_order_is_passed_over(on_v1: Rig) -> None:
    """The same artifact ordered again: Prepared for the first order is none for the second."""
    inference = on_v1.inference
    assert inference is not None
    inference.silent = True
    on_v1.server.assign(V2)
    on_v1.wait(
        lambda: [one for one in inference.kinds(Prepare) if one.artifact == V2.artifact],
        "the first question",
    )
    go_on = threading.Event()

    def slow_trial(*_: object) -> TrialOutcome:
        go_on.wait(30)
        return TrialOutcome(ok=True)

    on_v1.updater._trial = slow_trial
    on_v1.server.assign(V2, attempt=2)
    on_v1.wait(lambda: on_v1.server.states(V2)[-1] == "proved", "the second order to be tried")
    inference.say(Prepared(model=MODEL, artifact=V2.artifact, ok=True))
    inference.say(Prepared(model=MODEL, artifact=V2.artifact, ok=False, reason="EngineError"))
    inference.say(Switched(model=MODEL, artifact=V2.artifact, ok=True))
    heard = threading.Event()
    on_hello = on_v1.updater.peer._on_hello

    def hear_hello(message: Hello) -> None:
        on_hello(message)
        heard.set()

    on_v1.updater.peer._on_hello = hear_hello
    inference.hello()  # packets keep their order: what was said before it was heard before it
    assert heard.wait(30)
    inference.silent = False
    go_on.set()
    assert on_v1.wait_for_end(V2, "committed") == "committed"


def test_what_a_slot_names_is_proved_before_it_is_loaded_again(on_v1: Rig) -> None:
    """Inference that serves nothing is told to load a slot's files only once they are right:
    here they rotted meanwhile, so they are fetched again first."""
    inference = on_v1.inference
    assert inference is not None
    store = Store(inference.state)
    path = store.tree(V1.artifact) / V1.manifest.entry
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    seen: list[bytes] = []
    answer = inference._answer

    def looking(message: object) -> None:
        if isinstance(message, Prepare):
            seen.append(path.read_bytes())
        answer(message)  # type: ignore[arg-type]

    inference._answer = looking  # type: ignore[method-assign]
    inference.serving = {}
    inference.pid += 1
    inference.hello()
    on_v1.wait(lambda: inference.serving.get(MODEL) == V1.artifact, "version 1 to serve again")
    assert seen
    assert set(seen) == {V1.files[V1.manifest.entry]}
