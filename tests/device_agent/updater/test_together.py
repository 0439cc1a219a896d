"""Models of a group switch together or not at all, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.records import Message, Observed, Prepare, Switch
from device_agent.store import Slot, Store
from device_agent.updater.together import Place, Verdict, judge
from device_agent.updater.trial_values import TrialOutcome
from edge_sdk.base import Digest
from tests.support.artifacts import ArtifactBytes
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.processes import wait_for
from tests.support.updater_rig import Rig, ScriptedInference, observation

EARS = "team/ears"
EYES = "team/eyes"


def artifact(model: str, version: str) -> ArtifactBytes:
    return model_artifact(linear(float(version[0])), name=model, version=version)


EARS_1, EARS_2, EARS_3 = (artifact(EARS, f"{number}.0.0") for number in (1, 2, 3))
EYES_1, EYES_2, EYES_3 = (artifact(EYES, f"{number}.0.0") for number in (1, 2, 3))


def serving(rig: Rig) -> tuple[Digest | None, Digest | None]:
    assert rig.inference is not None
    return rig.inference.serving.get(EARS), rig.inference.serving.get(EYES)


def begun(rig: Rig) -> ScriptedInference:
    """Version 1 of both is committed."""
    rig.server.assign(EARS_1, EYES_1, together=True)
    rig.start()
    rig.wait_for_end(EARS_1, "committed")
    rig.wait_for_end(EYES_1, "committed")
    assert rig.inference is not None
    return rig.inference


@pytest.mark.parametrize(
    ("others", "needed", "verdict"),
    [
        ([], Place.LOADED, Verdict.GO),
        ([Place.LOADED, Place.ARRIVED], Place.LOADED, Verdict.GO),
        ([Place.COMING, Place.ARRIVED], Place.LOADED, Verdict.WAIT),
        ([Place.SERVING], Place.PASSED, Verdict.WAIT),
        ([Place.PASSED], Place.PASSED, Verdict.GO),
        ([Place.LOST, Place.LOADED], Place.LOADED, Verdict.NEVER),
    ],
)
def test_who_may_go(others: list[Place], needed: Place, verdict: Verdict) -> None:
    """All others must be as far; one that is lost takes the rest with it."""
    assert judge(others, needed) is verdict


def test_both_switch_and_are_kept_together(rig: Rig) -> None:
    """No switch is asked for before both are loaded, and the two follow each other at once."""
    gate = threading.Event()

    def slow_for_new_eyes(folder: Path, *_: object) -> TrialOutcome:
        assert str(EYES_2.artifact) not in str(folder) or gate.wait(20)
        return TrialOutcome(ok=True)

    rig.trial = slow_for_new_eyes
    inference = begun(rig)
    seen = len(inference.kinds(Switch))
    rig.server.assign(EARS_2, EYES_2, together=True)
    rig.wait(lambda: "tried" in rig.server.states(EARS_2), "ears to be tried")
    rig.wait(lambda: rig.updater.updates[EARS].message.startswith("waits for team/eyes"), "it")
    assert inference.kinds(Switch)[seen:] == []
    assert serving(rig) == (EARS_1.artifact, EYES_1.artifact)
    gate.set()
    rig.wait_for_end(EARS_2, "committed")
    rig.wait_for_end(EYES_2, "committed")
    asked = [one.artifact for one in inference.kinds(Switch)[seen:]]
    assert set(asked[:2]) == {EARS_2.artifact, EYES_2.artifact}


def test_one_that_fails_its_trial_keeps_the_other_from_switching(rig: Rig) -> None:
    """Both stay as they were, and the one that was well says whose fault it is."""
    inference = begun(rig)
    seen = len(inference.kinds(Switch))
    inference.refuses = {EYES_2.artifact}
    rig.server.assign(EARS_2, EYES_2, together=True)
    assert rig.wait_for_end(EYES_2) == "failed"
    assert rig.wait_for_end(EARS_2) == "failed"
    why = [event.reason for event in rig.server.events if event.artifact == EARS_2.artifact.raw]
    assert why[-1] == "GroupFailedError"
    assert inference.kinds(Switch)[seen:] == []
    assert (rig.active(EARS), rig.active(EYES)) == (EARS_1.artifact, EYES_1.artifact)


def test_one_that_is_worse_takes_the_other_back(rig: Rig) -> None:
    """The other has passed its probation and waits to be kept: it goes back as well."""
    inference = begun(rig)

    def worse_eyes(switch: Switch):  # type: ignore[no-untyped-def]
        errors = 9 if switch.artifact == EYES_2.artifact else 0
        return observation(switch, requests=9, errors=errors)

    inference.observed = worse_eyes
    rig.server.assign(EARS_2, EYES_2, together=True)
    assert rig.wait_for_end(EYES_2) == "rolled_back"
    assert rig.wait_for_end(EARS_2) == "rolled_back"
    rig.wait(lambda: serving(rig) == (EARS_1.artifact, EYES_1.artifact), "both to be back")
    rig.server.assign(EARS_3, EYES_3, together=True)
    rig.wait_for_end(EARS_3, "committed")
    rig.wait_for_end(EYES_3, "committed")


def test_no_answer_comes_between_two_switches(rig: Rig) -> None:
    """Inference answers at once, and that the last one is worse: the other was told to switch
    before anybody heard of it, so both go back instead of one that fails alone."""
    inference, gate = begun(rig), threading.Event()
    inference.observed = lambda switch: observation(
        switch, requests=9, errors=9 if switch.artifact == EYES_2.artifact else 0
    )
    answer = inference._answer

    def late_for_new_eyes(message: Message) -> None:
        assert not is_eyes_prepare(message) or gate.wait(20)
        answer(message)

    def is_eyes_prepare(message: Message) -> bool:
        return isinstance(message, Prepare) and message.artifact == EYES_2.artifact

    inference._answer = late_for_new_eyes  # type: ignore[method-assign]
    link, heard = rig.updater._inference, []
    assert link is not None
    send, deliver = link.send, link._deliver

    def send_and_wait(message: Message) -> None:
        send(message)
        if isinstance(message, Switch) and message.mode == "switch" and message.probation:
            wait_for(lambda: message.artifact in heard, "its answers to lie in the loop")

    def noted(message: Message) -> Callable[[], None]:
        if isinstance(message, Observed):
            heard.append(message.artifact)
        return deliver(message)

    link.send, link._deliver = send_and_wait, noted  # type: ignore[method-assign]
    rig.server.assign(EARS_2, EYES_2, together=True)
    rig.wait(lambda: rig.updater.updates[EARS].message.startswith("waits for team/eyes"), "it")
    rig.wait(lambda: any(map(is_eyes_prepare, inference.received)), "eyes to be loaded")
    rig.updater.loop.ask(lambda: None)  # it has nothing left to do but to hear that they are
    gate.set()
    assert rig.wait_for_end(EYES_2) == "rolled_back"
    assert rig.wait_for_end(EARS_2) == "rolled_back"


def test_a_member_that_stays_holds_nobody_up(rig: Rig) -> None:
    """A group of which one model changes: the other is where it should be already."""
    begun(rig)
    rig.server.assign(EARS_2, EYES_1, together=True)
    rig.wait_for_end(EARS_2, "committed")
    assert rig.active(EYES) == EYES_1.artifact


def test_a_newer_assignment_without_the_group_lets_go(rig: Rig) -> None:
    """What waits for a model that is lost for good goes on when nobody asks for that any more."""
    begun(rig)
    rig.server.damage = lambda _delta, _offset, frame: bytes(len(frame))
    rig.server.assign(EARS_2, EYES_2, together=True)
    rig.wait(lambda: "fetching" in rig.server.states(EARS_2), "a download that leads nowhere")
    rig.server.damage = None
    rig.server.assign(EARS_2, EYES_2)
    rig.wait_for_end(EARS_2, "committed")
    rig.wait_for_end(EYES_2, "committed")


def test_a_power_cut_between_two_switches_shows_no_mix(rig: Rig) -> None:
    """One slot names the new version, the other not yet: the start serves both old ones, and
    then both new ones."""
    begun(rig).observed = None  # no verdict yet
    rig.server.assign(EARS_2, EYES_2, together=True)
    rig.wait(lambda: rig.active(EARS) == EARS_2.artifact, "the first switch")
    rig.wait(lambda: rig.active(EYES) == EYES_2.artifact, "the second")
    rig.stop()
    # As if the power had gone between the two slots.
    store = Store(rig.state)
    store.slot_files.put(Slot(model=EYES, active=EYES_1.artifact))
    starts = [one.starts_with for one in store.slots()]
    assert starts == [EARS_1.artifact, EYES_1.artifact]
    rig.start()
    assert rig.inference is not None
    rig.wait_for_end(EARS_2, "committed")
    rig.wait_for_end(EYES_2, "committed")
    assert serving(rig) == (EARS_2.artifact, EYES_2.artifact)
