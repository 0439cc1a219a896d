"""Canary and shadow, from the order to the commit or the way back, and over every cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from device_agent.config import ProbationConfig
from device_agent.records import Drop, Observed, Prepare, Switch
from device_agent.store import Slot, Store
from device_agent.updater.probation import Probation
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.processes import wait_for
from tests.support.updater_rig import Rig, ScriptedInference, mirrored

MODEL = "team/digits"
V1 = model_artifact(linear(1.0), version="1.0.0")
V2 = model_artifact(linear(2.0), version="2.0.0")
SHORT = ProbationConfig(duration_s=0.05, deadline_s=0.2, samples_min=20, mode="canary", share=0.2)
LONG = dataclasses.replace(SHORT, duration_s=600, deadline_s=600)


@pytest.fixture
def on_v1(request: pytest.FixtureRequest, rig: Rig) -> Iterator[Rig]:
    """A device that runs version 1, with a long probation as a canary or in another mode."""
    mode = getattr(request, "param", "canary")
    rig.configure(probation=dataclasses.replace(SHORT, mode=mode))
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    rig.configure(probation=dataclasses.replace(LONG, mode=mode))
    rig.updater.context.config = rig.config
    yield rig


def scripted(rig: Rig) -> ScriptedInference:
    assert rig.inference is not None
    return rig.inference


class CutError(Exception):
    """The power goes here."""


def cut_at(rig: Rig, act: str) -> None:
    """The updater ends where it would perform that act, its state being durable."""

    def cut(update: object) -> None:
        raise CutError

    setattr(rig.updater.switcher, act, cut)


def wait_for_cut(rig: Rig) -> None:
    wait_for(lambda: isinstance(rig.failure, CutError), "the cut")
    rig.stop()
    rig.failure = None


def slot(rig: Rig) -> Slot | None:
    return Store(rig.state).slot_files.get(MODEL)


def again(rig: Rig, observed: Callable[[Switch], Observed] | None, **changes: object) -> None:
    """The updater starts again with other settings of probation."""
    rig.stop()
    rig.configure(probation=dataclasses.replace(rig.config.probation, **changes))  # type: ignore[arg-type]
    rig.start()
    scripted(rig).observed = observed


def on_probation(rig: Rig) -> None:
    scripted(rig).observed = None
    rig.server.assign(V2)
    rig.wait(lambda: "on_probation" in rig.server.states(V2), "probation")
    rig.wait(lambda: scripted(rig).kinds(Switch)[-1].artifact == V2.artifact, "the order")


def test_a_first_version_switches(on_v1: Rig) -> None:
    """Where nothing serves there is nothing to stand beside."""
    assert [one.mode for one in scripted(on_v1).kinds(Switch)] == ["switch"]


@pytest.mark.parametrize("on_v1", ["canary", "shadow"], indirect=True)
def test_it_becomes_active_only_when_the_verdict_is_good(on_v1: Rig) -> None:
    """Beside the version before until then; the slot starts inference with that; the commit
    switches, then unloads it."""
    mode = on_v1.config.probation.mode
    on_probation(on_v1)
    inference = scripted(on_v1)
    assert slot(on_v1) == Slot(
        model=MODEL, active=V2.artifact, previous=V1.artifact, on_probation=True
    )
    assert inference.serving == {MODEL: V1.artifact}
    order = inference.kinds(Switch)[-1]
    assert (order.mode, order.share, order.probation) == (mode, 0.2, True)
    (told,) = [
        one for one in on_v1.server.events if one.state == "switched" and "mode" in one.facts
    ]
    assert (told.version, told.facts["mode"]) == ("2.0.0", mode)
    inference.received.clear()
    inference.observed = None
    on_v1.updater.updates[MODEL].probation.rule = Probation(SHORT, comparable=True).rule  # type: ignore[union-attr]
    inference.say(mirrored(order))
    assert on_v1.wait_for_end(V2) == "committed"
    on_v1.wait(lambda: inference.kinds(Drop), "the drop")
    assert inference.received == [
        Switch(model=MODEL, artifact=V2.artifact, probation=False),
        Drop(model=MODEL, artifact=V1.artifact),
    ]
    assert slot(on_v1) == Slot(model=MODEL, active=V2.artifact, previous=V1.artifact)
    event = on_v1.server.last_event(V2)
    assert event is not None
    assert (event.facts["mode"], event.facts["mirrored"], event.facts["ratio"]) == (
        mode,
        "40",
        "1.000",
    )


def test_a_slower_candidate_never_becomes_active(on_v1: Rig) -> None:
    """Pairs of requests are evidence enough, at once; what served goes on serving."""
    scripted(on_v1).observed = lambda switch: mirrored(switch, slower=2.0)
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "rolled_back"
    event = on_v1.server.last_event(V2)
    assert event is not None
    assert "2.00 times as long" in event.message
    assert slot(on_v1) == Slot(model=MODEL, active=V1.artifact)
    on_v1.wait(
        lambda: Drop(model=MODEL, artifact=V2.artifact) in scripted(on_v1).received, "the drop"
    )
    assert scripted(on_v1).serving == {MODEL: V1.artifact}


@pytest.mark.parametrize("on_v1", ["canary", "shadow"], indirect=True)
def test_a_power_cut_comes_back_with_the_version_before(on_v1: Rig) -> None:
    """Everything starts again: inference from the slot with version 1, the updater from its
    journal; the candidate is loaded, stands beside again, and can still be committed."""
    mode = on_v1.config.probation.mode
    on_probation(on_v1)
    before = slot(on_v1)
    assert before is not None
    assert before.starts_with == V1.artifact
    scripted(on_v1).pid += 1
    again(on_v1, mirrored, duration_s=0.05, deadline_s=5)
    assert on_v1.wait_for_end(V2) == "committed"
    inference = scripted(on_v1)
    assert [type(one) for one in inference.received if isinstance(one, (Prepare, Switch))] == [
        Prepare,
        Switch,
        Switch,
    ]
    assert [one.mode for one in inference.kinds(Switch)] == [mode, "switch"]
    on_v1.wait(lambda: inference.serving == {MODEL: V2.artifact}, "the candidate to serve")


def test_a_cut_after_the_verdict_was_written_ends_committed(on_v1: Rig) -> None:
    """The journal says committed, slot and inference do not know it yet: after the start the
    slot is written and the candidate serves."""
    on_probation(on_v1)
    cut_at(on_v1, "commit")
    order = scripted(on_v1).kinds(Switch)[-1]
    on_v1.updater.updates[MODEL].probation.rule = Probation(SHORT, comparable=True).rule  # type: ignore[union-attr]
    scripted(on_v1).say(mirrored(order))
    wait_for_cut(on_v1)
    cut = slot(on_v1)
    assert cut is not None
    assert cut.on_probation
    scripted(on_v1).pid += 1
    again(on_v1, None)
    on_v1.wait(lambda: scripted(on_v1).serving == {MODEL: V2.artifact}, "the candidate to serve")
    assert slot(on_v1) == Slot(model=MODEL, active=V2.artifact, previous=V1.artifact)


def test_a_cut_before_the_slot_was_written_tries_again(on_v1: Rig) -> None:
    """The journal says switched, nothing else knows: version 1 is what the slot names, and after
    the start the candidate is loaded, stands beside it, and ends well."""
    cut_at(on_v1, "switch")
    on_v1.server.assign(V2)
    wait_for_cut(on_v1)
    assert slot(on_v1) == Slot(model=MODEL, active=V1.artifact)
    scripted(on_v1).pid += 1
    again(on_v1, mirrored, duration_s=0.05, deadline_s=5)
    assert on_v1.wait_for_end(V2) == "committed"
    on_v1.wait(lambda: scripted(on_v1).serving == {MODEL: V2.artifact}, "the candidate to serve")


def test_a_cut_between_slot_and_word_ends_committed(on_v1: Rig) -> None:
    """The slot says that the candidate is kept, inference did not hear it: after the start, of
    the updater alone, it is told."""
    on_probation(on_v1)
    order = scripted(on_v1).kinds(Switch)[-1]
    on_v1.updater.updates[MODEL].probation.rule = Probation(SHORT, comparable=True).rule  # type: ignore[union-attr]

    def cut(message: object) -> None:
        raise CutError

    on_v1.updater.switcher._send = cut  # type: ignore[method-assign, assignment]
    scripted(on_v1).say(mirrored(order))
    wait_for_cut(on_v1)
    assert slot(on_v1) == Slot(model=MODEL, active=V2.artifact, previous=V1.artifact)
    assert scripted(on_v1).serving == {MODEL: V1.artifact}
    again(on_v1, None)
    on_v1.wait(lambda: scripted(on_v1).serving == {MODEL: V2.artifact}, "the candidate to serve")


def test_a_newer_order_ends_a_canary(on_v1: Rig) -> None:
    """Another assignment meanwhile: version 1 alone serves again."""
    on_probation(on_v1)
    inference = scripted(on_v1)
    on_v1.server.assign(V1)
    on_v1.wait(
        lambda: Drop(model=MODEL, artifact=V2.artifact) in inference.received, "the candidate to go"
    )
    assert slot(on_v1) == Slot(model=MODEL, active=V1.artifact)
    assert inference.serving == {MODEL: V1.artifact}


def test_a_cut_after_the_way_back_was_written_ends_there(on_v1: Rig) -> None:
    """The journal says rolled back, the slot still names the candidate: after the start it
    names version 1 alone, and the candidate is not tried again."""
    on_probation(on_v1)
    cut_at(on_v1, "roll_back")
    order = scripted(on_v1).kinds(Switch)[-1]
    scripted(on_v1).say(mirrored(order, slower=3.0))
    wait_for_cut(on_v1)
    again(on_v1, None)
    on_v1.wait(lambda: slot(on_v1) == Slot(model=MODEL, active=V1.artifact), "the slot")
    assert on_v1.wait_for_end(V2) == "rolled_back"
    assert scripted(on_v1).serving == {MODEL: V1.artifact}
    assert not [one for one in scripted(on_v1).kinds(Switch) if one.artifact == V2.artifact]


def test_a_crash_of_inference_counts_against_it(on_v1: Rig) -> None:
    """The candidate runs in the same process: as on any probation."""
    on_probation(on_v1)
    scripted(on_v1).crash()
    assert scripted(on_v1).serving == {MODEL: V1.artifact}
    assert on_v1.wait_for_end(V2) == "rolled_back"


def test_the_status_names_who_serves(on_v1: Rig) -> None:
    """Version 1 serves while version 2 stands beside it; with what was seen so far."""
    mode = on_v1.config.probation.mode
    on_probation(on_v1)
    scripted(on_v1).say(mirrored(scripted(on_v1).kinds(Switch)[-1], agreed=30))
    ask = on_v1.updater.loop.ask

    def seen() -> bool:
        watching = ask(on_v1.updater.models)[0].watching
        return watching is not None and watching.requests == 40

    on_v1.wait(seen, "what was seen")
    (model,) = ask(on_v1.updater.models)
    assert (model.version, model.candidate_version, model.state) == (
        "1.0.0",
        "2.0.0",
        "on_probation",
    )
    watching = model.watching
    assert watching is not None
    assert (watching.mode, watching.mirrored, watching.agreed, watching.ratio) == (mode, 40, 30, 1)
    assert watching.share == {"canary": 0.2, "shadow": 0.0}[mode]


def test_without_traffic_policy_decides(on_v1: Rig) -> None:
    """Nobody asked anything: unproved, and with ``unproved_stays`` off it goes back."""
    again(on_v1, None, duration_s=0.05, deadline_s=0.1, unproved_stays=False)
    scripted(on_v1).observed = lambda switch: mirrored(switch, pairs=0)
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "rolled_back"
    assert scripted(on_v1).serving == {MODEL: V1.artifact}
