"""What inference says: deaths while it loads, and answers that come too late."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from device_agent.config import ProbationConfig
from device_agent.records import Loading, Prepare, Prepared, Switch, Switched
from device_agent.store import Store
from tests.support.artifacts import ArtifactBytes
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig, observation

MODEL = "team/digits"
V1 = model_artifact(linear(1.0), version="1.0.0")
V2 = model_artifact(linear(2.0), version="2.0.0")
V3 = model_artifact(linear(3.0), version="3.0.0")


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
    """The same artifact ordered again: what answers the first order is none for the second,
    even where the second waits for just such an answer, also after a restart."""
    inference = on_v1.inference
    assert inference is not None
    inference.silent = True

    def questions() -> list[Prepare]:
        return [one for one in inference.kinds(Prepare) if one.artifact == V2.artifact]

    on_v1.server.assign(V2)
    on_v1.wait(questions, "the first question")
    on_v1.server.assign(V2, attempt=2)
    on_v1.wait(lambda: len(questions()) == 2, "the second question")
    old, new = (one.number for one in questions())
    assert new > old > 0
    for number in (old, 0):
        late = {"model": MODEL, "artifact": V2.artifact, "number": number}
        inference.say(Prepared(**late, ok=True))
        inference.say(Prepared(**late, ok=False, reason="EngineError"))
        inference.say(Switched(**late, ok=True))
    hear_all(on_v1)
    assert on_v1.updater.updates[MODEL].state.value == "tried"
    inference.say(Prepared(model=MODEL, artifact=V2.artifact, ok=True, number=new))
    switch = on_v1.wait(
        lambda: next((one for one in inference.kinds(Switch) if one.artifact == V2.artifact), None),
        "the answer that counts",
    )
    on_v1.stop()
    on_v1.start()
    fresh = on_v1.inference
    assert fresh is not None
    assert on_v1.wait_for_end(V2, "committed") == "committed"
    assert min(one.number for one in fresh.kinds(Prepare)) > switch.number


def test_observations_of_an_older_order_do_not_count(on_v1: Rig) -> None:
    """The same artifact on probation again: what went wrong the first time is not held
    against it."""
    inference = on_v1.inference
    assert inference is not None
    inference.observed = None

    def switches() -> list[Switch]:
        return [one for one in inference.kinds(Switch) if one.probation]

    on_v1.configure(probation=ProbationConfig(duration_s=600, deadline_s=600))
    on_v1.stop()
    on_v1.start()
    inference = on_v1.inference
    inference.observed = None
    on_v1.server.assign(V2)
    on_v1.wait(lambda: len(switches()) == 1, "the first probation")
    on_v1.server.assign(V2, attempt=2)
    on_v1.wait(lambda: len(switches()) == 2, "the second probation")
    on_v1.wait(lambda: on_v1.server.states(V2)[-1] == "on_probation", "the report")
    first, second = switches()
    inference.say(observation(first, requests=5, errors=5))
    hear_all(on_v1)
    assert on_v1.server.states(V2)[-1] == "on_probation"
    inference.say(observation(second, requests=5, errors=5))
    assert on_v1.wait_for_end(V2) == "rolled_back"


def hear_all(rig: Rig) -> None:
    """Returns when the updater heard whatever inference said before: packets keep order."""
    heard = threading.Event()
    assert rig.inference is not None
    rig.updater.peer._on_hello, on_hello = lambda _: heard.set(), rig.updater.peer._on_hello
    rig.inference.hello()
    assert heard.wait(30)
    rig.updater.peer._on_hello = on_hello


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


def die_at_start(rig: Rig, artifact: ArtifactBytes, times: int) -> None:
    """Inference begins ``times`` to load the artifact, and never comes to Hello."""
    inference = rig.inference
    assert inference is not None
    for _ in range(times):
        inference.pid += 1
        inference.say(Loading(pid=inference.pid, model=MODEL, artifact=artifact.artifact))


def test_what_inference_dies_of_at_its_start_is_left_for_the_version_before(on_v1: Rig) -> None:
    """A committed model that kills each start: the slot goes back by itself, the version is
    reported as rolled back and remembered, and the next start serves the one before."""
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "committed"
    die_at_start(on_v1, V2, 4)
    assert on_v1.wait_for_end(V2, "rolled_back") == "rolled_back"
    event = on_v1.server.last_event(V2)
    assert event is not None
    assert event.reason == "CandidateRefusedError"
    assert "at its start" in event.message
    on_v1.wait(lambda: on_v1.active() == V1.artifact, "version 1 to be active")
    assert not on_v1.updater.loop.ask(on_v1.updater.status).inference_ready
    inference = on_v1.inference
    assert inference is not None
    inference.crash()
    on_v1.wait(lambda: on_v1.updater.status().inference_ready, "inference")
    assert inference.serving == {MODEL: V1.artifact}
    on_v1.server.assign(V2, rollout="again")
    on_v1.wait(lambda: on_v1.server.events[-1].rollout == "again", "the answer")
    assert on_v1.server.events[-1].state == "failed"
    assert on_v1.active() == V1.artifact


def test_an_update_under_way_does_not_hinder_the_way_back(on_v1: Rig) -> None:
    """The next version waits for an inference that cannot start with the present one."""
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "committed"
    inference = on_v1.inference
    assert inference is not None
    inference.silent = True
    on_v1.server.assign(V3)
    on_v1.wait(lambda: "tried" in on_v1.server.states(V3), "version 3 to wait for inference")
    die_at_start(on_v1, V2, 4)
    on_v1.wait(lambda: on_v1.active() == V1.artifact, "version 1 to be active")
    inference.silent = False
    inference.crash()
    assert on_v1.wait_for_end(V3) == "committed"
    assert on_v1.server.states(V2)[-1] == "rolled_back"


def test_with_nothing_to_go_back_to_the_deaths_are_reported(on_v1: Rig) -> None:
    """The first version of a device stays in its slot, and the updater says what is wrong."""
    die_at_start(on_v1, V1, 6)
    on_v1.wait(lambda: on_v1.server.events[-1].reason == "InferenceGoneError", "the report")
    assert "no artifact before it" in on_v1.server.events[-1].message
    assert on_v1.active() == V1.artifact
    reasons = [event.reason for event in on_v1.server.events]
    assert reasons.count("InferenceGoneError") == 1


def test_a_start_that_goes_well_forgives_the_deaths_before_it(on_v1: Rig) -> None:
    """Deaths count in a row: a machine that is now and then short of memory loses nothing."""
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "committed"
    inference = on_v1.inference
    assert inference is not None
    for _ in range(3):
        die_at_start(on_v1, V2, 2)
        inference.crash()
    on_v1.wait(lambda: on_v1.updater.peer.pid == inference.pid, "the last hello")
    assert on_v1.updater.peer._start_deaths == {}
    assert on_v1.active() == V2.artifact
