"""The driver: trial, switch, probation and every way back, with a scripted inference process."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.config import ProbationConfig
from device_agent.records import Drop, Observed, Prepare, Switch
from device_agent.store import Slot, Store
from device_agent.updater.trial import try_candidate
from edge_sdk.base import Digest, EdgeError, NotFoundError, RefusedError, error_classes
from edge_sdk.manifest import Signature, TensorSpec
from edge_sdk.trust import peek_assignment
from tests.support.artifacts import ArtifactBytes, make_artifact, noise
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig, ScriptedInference, observation, observe_well

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


def be_patient(rig: Rig) -> None:
    """What is watched from now on is not committed before its requests were told: on a busy
    machine the usual fifth of a second is over before a test has done anything."""
    rig.configure(probation=ProbationConfig(duration_s=0.05, deadline_s=600, samples_min=4))
    rig.updater.context.config = rig.config


def slot(rig: Rig) -> Slot | None:
    return Store(rig.state).slot_files.get(MODEL)


def reason(rig: Rig, artifact: ArtifactBytes) -> str:
    event = rig.server.last_event(artifact)
    assert event is not None
    return event.reason


def test_the_order_of_a_switch(on_v1: Rig) -> None:
    """Prepare, slot, switch, and the version before is unloaded only after the commit."""
    inference = on_v1.inference
    assert inference is not None
    inference.received.clear()
    seen: list[Slot | None] = []
    answer = inference._answer

    def watching(message: object) -> None:
        if isinstance(message, (Prepare, Switch)):
            seen.append(slot(on_v1))
        answer(message)  # type: ignore[arg-type]

    inference._answer = watching  # type: ignore[method-assign]
    on_v1.server.assign(V2)
    on_v1.wait_for_end(V2, "committed")
    on_v1.wait(lambda: inference.kinds(Drop), "the drop")
    assert [type(one).__name__ for one in inference.received] == ["Prepare", "Switch", "Drop"]
    assert seen[0] == Slot(model=MODEL, active=V1.artifact)
    assert seen[1] == Slot(model=MODEL, active=V2.artifact, previous=V1.artifact, on_probation=True)
    assert slot(on_v1) == Slot(model=MODEL, active=V2.artifact, previous=V1.artifact)
    assert inference.kinds(Drop)[0].artifact == V1.artifact


def test_c62_a_version_that_answers_otherwise_is_refused(on_v1: Rig) -> None:
    """The golden sample comes from the undamaged model: the device finds out before traffic."""
    damaged = model_artifact(linear(7.0), golden_of=linear(2.0), version="2.0.0")
    on_v1.updater.trier.trial = try_candidate
    on_v1.server.assign(damaged)
    assert on_v1.wait_for_end(damaged) == "failed"
    event = on_v1.server.last_event(damaged)
    assert event is not None
    assert event.reason == "CandidateRefusedError"
    assert "golden sample differs" in event.message
    assert on_v1.inference is not None
    assert not [one for one in on_v1.inference.kinds(Prepare) if one.artifact == damaged.artifact]
    assert on_v1.active() == V1.artifact


def test_c30_a_refused_version_waits_for_a_new_attempt(on_v1: Rig) -> None:
    """The verdict is remembered over restarts; only a higher attempt number lifts it."""
    damaged = model_artifact(linear(7.0), golden_of=linear(2.0), version="2.0.0")
    on_v1.updater.trier.trial = on_v1.trial = try_candidate
    on_v1.server.assign(damaged)
    on_v1.wait_for_end(damaged, "failed")
    sent = on_v1.server.sent_bytes
    on_v1.stop()
    on_v1.start()
    said = len(on_v1.server.states(damaged))
    on_v1.server.assign(damaged, attempt=1, rollout="again")
    on_v1.wait(lambda: len(on_v1.server.states(damaged)) > said, "the answer to the new order")
    event = on_v1.server.last_event(damaged)
    assert event is not None
    assert (event.state, event.rollout, event.facts["known"]) == ("failed", "again", "true")
    assert on_v1.server.sent_bytes == sent
    plans = len(on_v1.server.plans)
    on_v1.server.assign(damaged, attempt=2, rollout="third")
    on_v1.wait(lambda: len(on_v1.server.plans) > plans, "a new attempt")


def test_a_slower_version_is_rolled_back(on_v1: Rig) -> None:
    """More than 1.5 times the compute time of the version before: rolled back, with evidence."""
    assert on_v1.inference is not None
    on_v1.inference.observed = lambda switch: observation(switch, requests=5, slower=4.0)
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "rolled_back"
    event = on_v1.server.last_event(V2)
    assert event is not None
    assert event.reason == "CandidateRefusedError"
    assert event.facts["ratio"] == "4.000"
    on_v1.wait(lambda: slot(on_v1) == Slot(model=MODEL, active=V1.artifact), "the slot")
    on_v1.wait(lambda: on_v1.inference.serving.get(MODEL) == V1.artifact, "v1 to serve again")  # type: ignore[union-attr]
    on_v1.wait(
        lambda: Drop(model=MODEL, artifact=V2.artifact) in on_v1.inference.received,  # type: ignore[union-attr]
        "the candidate to be unloaded",
    )


def test_errors_in_served_traffic_roll_back(on_v1: Rig) -> None:
    """One failed request is enough."""
    assert on_v1.inference is not None
    on_v1.inference.observed = lambda switch: observation(switch, requests=5, errors=1)
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "rolled_back"
    assert on_v1.active() == V1.artifact


def test_without_traffic_it_stays_as_unproved(on_v1: Rig) -> None:
    """Silence is not proof: committed, but said so."""
    assert on_v1.inference is not None
    on_v1.inference.observed = lambda switch: observation(switch, requests=0)
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "committed"
    event = on_v1.server.last_event(V2)
    assert event is not None
    assert event.facts["unproved"] == "true"


def test_policy_may_put_an_unproved_version_back(rig: Rig) -> None:
    """With ``unproved_stays`` off, no traffic is a reason to go back."""
    import dataclasses

    rig.configure(probation=dataclasses.replace(rig.config.probation, unproved_stays=False))
    rig.server.assign(V1)
    rig.start()
    assert rig.inference is not None
    rig.wait_for_end(V1)
    rig.inference.observed = lambda switch: observation(switch, requests=0)
    rig.server.assign(V2)
    assert rig.wait_for_end(V2) == "rolled_back"


def test_a_crash_of_inference_counts_against_the_candidate(on_v1: Rig) -> None:
    """Inference dies while the candidate serves: back to what served before, and remembered."""
    assert on_v1.inference is not None
    be_patient(on_v1)
    on_v1.inference.observed = None
    on_v1.server.assign(V2)
    on_v1.wait(lambda: "on_probation" in on_v1.server.states(V2), "probation")
    on_v1.inference.crash()
    assert on_v1.wait_for_end(V2) == "rolled_back"
    assert reason(on_v1, V2) == "CandidateRefusedError"
    assert on_v1.active() == V1.artifact


def test_c25_a_restart_of_everything_is_no_crash(on_v1: Rig) -> None:
    """After a power cut the candidate is prepared and watched again: nothing counts."""
    assert on_v1.inference is not None
    on_v1.inference.observed = None
    on_v1.configure(probation=_long())
    on_v1.stop()
    on_v1.start()
    on_v1.inference.observed = None
    on_v1.server.assign(V2)
    on_v1.wait(lambda: "on_probation" in on_v1.server.states(V2), "probation")
    on_v1.stop()
    on_v1.inference.serving = {MODEL: V1.artifact}  # it started with the previous one
    on_v1.inference.pid += 1
    on_v1.configure(probation=Rig_probation())
    on_v1.start()
    assert on_v1.wait_for_end(V2) == "committed"
    assert on_v1.inference.serving[MODEL] == V2.artifact


def test_the_updater_alone_restarts_during_probation(on_v1: Rig) -> None:
    """Inference goes on serving the candidate; the probation begins anew and ends well."""
    assert on_v1.inference is not None
    be_patient(on_v1)
    on_v1.inference.observed = None
    on_v1.server.assign(V2)
    on_v1.wait(lambda: "on_probation" in on_v1.server.states(V2), "probation")
    on_v1.stop()
    on_v1.start()
    assert on_v1.wait_for_end(V2) == "committed"
    assert "rolled_back" not in on_v1.server.states(V2)


def test_a_candidate_that_inference_cannot_load_is_refused(on_v1: Rig) -> None:
    """It passed its trial but not the loading beside what serves: failed, and remembered."""
    assert on_v1.inference is not None
    on_v1.inference.refuses.add(V2.artifact)
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "failed"
    assert reason(on_v1, V2) == "EngineError"
    assert on_v1.active() == V1.artifact


def test_memory_short_for_a_moment_is_tried_again(on_v1: Rig) -> None:
    """ResourceError is not the version's fault: it is prepared again after a while."""
    inference = on_v1.inference
    assert inference is not None
    inference.reason = "ResourceError"
    inference.refuses.add(V2.artifact)
    on_v1.server.assign(V2)
    on_v1.wait(lambda: len(inference.kinds(Prepare)) > 2, "a second try")
    inference.refuses.clear()
    assert on_v1.wait_for_end(V2) == "committed"


def test_a_switch_that_fails_goes_back(on_v1: Rig) -> None:
    """The slot named the candidate already; afterwards it names what serves."""
    assert on_v1.inference is not None
    on_v1.inference.fails_switch.add(V2.artifact)
    on_v1.server.assign(V2)
    assert on_v1.wait_for_end(V2) == "rolled_back"
    on_v1.wait(lambda: slot(on_v1) == Slot(model=MODEL, active=V1.artifact), "the slot")


def test_c40_a_new_assignment_supersedes(on_v1: Rig) -> None:
    """An update on probation is ended by the next order, which is carried out."""
    assert on_v1.inference is not None
    be_patient(on_v1)
    on_v1.inference.observed = None
    on_v1.server.assign(V2)
    on_v1.wait(lambda: "on_probation" in on_v1.server.states(V2), "probation")
    on_v1.inference.observed = observe_well
    on_v1.server.assign(V3)
    assert on_v1.wait_for_end(V3) == "committed"
    assert on_v1.server.states(V2)[-1] == "rolled_back"
    assert reason(on_v1, V2) == "SupersededError"
    wanted = Slot(model=MODEL, active=V3.artifact, previous=V1.artifact)
    on_v1.wait(lambda: slot(on_v1) == wanted, "the slot")


def test_c45_five_updates_in_a_row(rig: Rig) -> None:
    """Nothing is left of one update that hinders the next."""
    versions = [model_artifact(linear(float(n)), version=f"{n}.0.0") for n in range(1, 6)]
    rig.start()
    for one in versions:
        rig.server.assign(one)
        assert rig.wait_for_end(one) == "committed"
    store = Store(rig.state)
    rig.updater.loop.ask(lambda: None)
    assert rig.active() == versions[-1].artifact
    rig.wait(lambda: len(store.held()) == 2, "only active and previous to be kept")


def test_somebody_on_the_device_goes_back(on_v1: Rig) -> None:
    """Rollback needs no bytes, blocks the version left, and is lifted by a higher attempt."""
    on_v1.server.assign(V2)
    on_v1.wait_for_end(V2)
    sent = on_v1.server.sent_bytes
    updater = on_v1.updater
    assert updater.loop.ask(lambda: updater.roll_back(MODEL)) == ("1.0.0", V1.artifact)
    on_v1.wait(lambda: on_v1.active() == V1.artifact, "v1 to be active again")
    on_v1.wait(lambda: on_v1.inference.serving.get(MODEL) == V1.artifact, "v1 to serve")  # type: ignore[union-attr]
    on_v1.wait(lambda: on_v1.server.states(V2)[-1] == "rolled_back", "the report")
    assert on_v1.server.sent_bytes == sent
    assert reason(on_v1, V2) == "RolledBackByOperatorError"
    on_v1.stop()
    on_v1.start()
    on_v1.updater.loop.ask(lambda: None)
    assert on_v1.active() == V1.artifact
    on_v1.server.assign(V2, attempt=2)
    on_v1.wait(lambda: on_v1.active() == V2.artifact, "the new attempt")


def test_c15_going_back_needs_space_nor_distributor(on_v1: Rig) -> None:
    """With a full disk and no distributor, the previous version serves again."""
    on_v1.server.assign(V2)
    on_v1.wait_for_end(V2)
    on_v1.server.stop()
    on_v1.configure(disk_quota_bytes=1)
    on_v1.updater.config = on_v1.updater.context.config = on_v1.config
    on_v1.updater.loop.ask(lambda: on_v1.updater.roll_back(MODEL))
    on_v1.wait(lambda: on_v1.active() == V1.artifact, "v1 to be active again")


def test_nothing_to_go_back_to(on_v1: Rig) -> None:
    """Clear errors where there is no such model, no previous one, or an update goes on."""
    updater = on_v1.updater
    with pytest.raises(NotFoundError, match="no model"):
        updater.loop.ask(lambda: updater.roll_back("team/other"))
    with pytest.raises(NotFoundError, match="nothing to go back to"):
        updater.loop.ask(lambda: updater.roll_back(MODEL))
    on_v1.server.assign(V2)
    on_v1.wait_for_end(V2)
    on_v1.server.stop()
    with pytest.raises(EdgeError):
        updater.loop.ask(lambda: updater.hold("team/other"))


def test_a_model_no_longer_assigned_is_unloaded(on_v1: Rig) -> None:
    """Absent from the assignment: dropped, its slot and its files removed, and said at once."""
    on_v1.server.assign()
    assert on_v1.inference is not None
    on_v1.wait(lambda: slot(on_v1) is None, "the slot to go")
    on_v1.wait(
        lambda: Drop(model=MODEL, artifact=None) in on_v1.inference.received,  # type: ignore[union-attr]
        "inference to be told",
    )
    on_v1.wait(lambda: not list((on_v1.state / "blobs").iterdir()), "the files to go")
    done = on_v1.server.counter
    on_v1.wait(
        lambda: any(
            one.assignment_counter == done and not one.models for one in on_v1.server.check_ins
        ),
        "a check-in that says so",
    )


def test_a_held_tree_stays(on_v1: Rig) -> None:
    """An application's lease keeps the folder; afterwards it is collected."""
    updater = on_v1.updater
    held = updater.loop.ask(lambda: updater.hold(MODEL))
    for one in (V2, V3):
        on_v1.server.assign(one)
        on_v1.wait_for_end(one, "committed")
    folder = Store(on_v1.state).tree(V1.artifact)
    assert held.folder == str(folder)
    assert (folder / "model.onnx").read_bytes() == V1.files["model.onnx"]
    updater.loop.ask(lambda: updater.let_go(held.number))
    assert not folder.exists()


def test_several_models(rig: Rig) -> None:
    """Two models and one that only brings files, all from one assignment."""
    other = model_artifact(linear(5.0), name="team/other")
    files = make_artifact({"a.bin": noise(3000)}, model="team/files")
    rig.server.assign(V1, other, files)
    rig.start()
    for one in (V1, other, files):
        assert rig.wait_for_end(one) == "committed"
    assert rig.inference is not None
    assert set(rig.inference.serving) == {MODEL, "team/other"}
    status = rig.updater.loop.ask(rig.updater.status)
    assert [model.model for model in status.models] == ["team/digits", "team/files", "team/other"]
    assert [model.serve for model in status.models] == ["inference", "none", "inference"]
    assert status.connected
    assert status.inference_ready


def test_the_active_artifact_rots_while_the_agent_is_down(on_v1: Rig) -> None:
    """Inference serves the previous one and says so; the file is repaired and put back."""
    on_v1.server.assign(V2)
    on_v1.wait_for_end(V2)
    on_v1.stop()
    path = Store(on_v1.state).tree(V2.artifact) / "model.onnx"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    assert on_v1.inference is not None
    old = on_v1.inference
    old.serving, old.damaged, old.pid = {MODEL: V1.artifact}, (V2.artifact,), old.pid + 1
    on_v1.start()
    fresh = on_v1.inference
    fresh.damaged = (V2.artifact,)
    fresh.hello()
    on_v1.wait(lambda: fresh.serving.get(MODEL) == V2.artifact, "the repaired one to serve")
    assert path.read_bytes() == V2.files["model.onnx"]
    assert slot(on_v1) == Slot(model=MODEL, active=V2.artifact, previous=V1.artifact)
    reasons = [event.reason for event in on_v1.server.events]
    assert "SourceRottenError" in reasons
    assert on_v1.server.plans[-1] == (V2.artifact, (V1.artifact,))


def test_an_order_for_what_runs_already_is_answered(on_v1: Rig) -> None:
    """Another rollout of the same artifact: committed at once, nothing sent (31: by digest)."""
    sent = on_v1.server.sent_bytes
    on_v1.server.assign(V1, attempt=2, rollout="second")
    on_v1.wait(lambda: any(one.rollout == "second" for one in on_v1.server.events), "the answer")
    event = on_v1.server.last_event(V1)
    assert event is not None
    assert (event.state, event.facts["known"]) == ("committed", "true")
    assert on_v1.server.sent_bytes == sent


def test_c21_reports_are_sent_until_acknowledged(rig: Rig) -> None:
    """The distributor takes no reports for a while: none is lost, none comes twice."""
    rig.server.acknowledges = False
    rig.server.assign(V1)
    rig.start()
    rig.wait(lambda: rig.active() == V1.artifact and not slot(rig).on_probation, "the commit")  # type: ignore[union-attr]
    assert rig.server.events == []
    rig.stop()
    rig.server.acknowledges = True
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    assert [one.number for one in rig.server.events] == list(range(1, len(rig.server.events) + 1))


def test_a_folder_made_anew_goes_on_numbering(on_v1: Rig) -> None:
    """The distributor knows of more events than this device: numbers go on from there."""
    import shutil

    on_v1.stop()
    before = on_v1.server.events[-1].number
    shutil.rmtree(on_v1.state)
    on_v1.start()
    on_v1.wait(lambda: on_v1.server.events[-1].number > before, "events after the known ones")
    on_v1.wait(
        lambda: (
            on_v1.server.events[-1].state == "committed" and on_v1.server.events[-1].number > before
        ),
        "the present state to be said again",
    )


def test_an_assignment_for_somebody_else_changes_nothing(on_v1: Rig) -> None:
    """Trust refuses it; what serves goes on."""
    on_v1.server.device = "kiosk-8"
    document = on_v1.server.assign(V2)
    on_v1.server.device = "kiosk-7"
    assert b"kiosk-8" in peek_assignment(document)
    on_v1.updater.loop.ask(lambda: on_v1.updater.check_in_now(lambda error: None))
    on_v1.wait(lambda: on_v1.updater.believer.refusal, "the refusal")
    assert "TrustError" in on_v1.updater.status().refusal
    assert on_v1.active() == V1.artifact


def test_a_check_in_says_what_this_device_holds(on_v1: Rig) -> None:
    """Held artifacts, capabilities and the state of each model."""
    on_v1.updater.loop.ask(lambda: on_v1.updater.check_in_now(lambda error: None))
    said = on_v1.wait(
        lambda: on_v1.server.check_ins[-1] if on_v1.server.check_ins[-1].held_artifacts else None,
        "a check-in with what is held",
    )
    assert list(said.held_artifacts) == [V1.artifact.raw]
    assert said.models[0].state == "committed"
    assert said.models[0].active_version == "1.0.0"
    assert said.capabilities.delta_methods
    assert said.capabilities.engines[0].name == "onnxruntime"


def test_inference_that_serves_another_than_its_slot_is_put_right(on_v1: Rig) -> None:
    """It started before the commit: it is asked to load what the slot names now."""
    inference = on_v1.inference
    assert inference is not None
    inference.received.clear()
    inference.serving.clear()
    inference.hello()
    on_v1.wait(lambda: inference.serving.get(MODEL) == V1.artifact, "the slot's artifact")
    assert [type(one) for one in inference.received] == [Prepare, Switch]


def test_without_a_distributor(on_v1: Rig) -> None:
    """The agent serves what it holds, and says that it has nobody to ask."""
    on_v1.stop()
    on_v1.configure(distributor="")
    on_v1.start()
    on_v1.wait(lambda: on_v1.updater.status().inference_ready, "inference")
    told: list[EdgeError | None] = []
    on_v1.updater.loop.ask(lambda: on_v1.updater.check_in_now(told.append))
    assert isinstance(told[0], RefusedError)
    assert on_v1.active() == V1.artifact


def test_names_of_errors_that_travel_are_known() -> None:
    """What a report names as reason is a class that Python has."""
    assert {"CandidateRefusedError", "SupersededError", "SourceRottenError"} <= set(error_classes())


def test_observations_of_another_artifact_do_not_count(on_v1: Rig) -> None:
    """A late message about the version before changes nothing."""
    on_v1.updater.peer.hear(
        Observed(
            model=MODEL,
            artifact=V2.artifact,
            requests=1,
            errors=1,
            active_compute_ns=(),
            candidate_compute_ns=(),
            rss_bytes=0,
        )
    )
    assert on_v1.active() == V1.artifact


def _long():  # type: ignore[no-untyped-def]
    from device_agent.config import ProbationConfig

    return ProbationConfig(duration_s=600, deadline_s=600, samples_min=4)


def Rig_probation():  # type: ignore[no-untyped-def]
    from device_agent.config import ProbationConfig

    return ProbationConfig(duration_s=0.05, deadline_s=0.2, samples_min=4)


def test_a_signature_too_large_for_a_packet_is_refused(on_v1: Rig) -> None:
    """A manifest may be large; what does not fit a packet ends the update, not the updater."""
    tensors = tuple(
        TensorSpec(name=f"{number}".rjust(900, "x"), dtype="float32", shape=(1,))
        for number in range(200)
    )
    manifest = replace(V2.manifest, signature=Signature(inputs=tensors, outputs=()))
    large = ArtifactBytes(manifest=manifest, files=V2.files)
    on_v1.server.assign(large)
    assert on_v1.wait_for_end(large) == "failed"
    assert on_v1.active() == V1.artifact


@pytest.mark.parametrize("on_probation", [False, True])
def test_what_rotted_while_the_agent_was_down_is_not_loaded(on_v1: Rig, on_probation: bool) -> None:
    """A candidate is proved again after a start before inference is asked to load it."""
    inference = on_v1.inference
    assert inference is not None
    if on_probation:
        on_v1.configure(probation=ProbationConfig(duration_s=600, deadline_s=600))
        on_v1.stop()
        on_v1.start()
        on_v1.server.assign(V2)
        on_v1.wait(lambda: "on_probation" in on_v1.server.states(V2), "probation")
    else:
        inference.silent = True
        on_v1.server.assign(V2)
        on_v1.wait(
            lambda: [one for one in inference.kinds(Prepare) if one.artifact == V2.artifact],
            "the question",
        )
    on_v1.stop()
    path = Store(on_v1.state).tree(V2.artifact) / "model.onnx"
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    on_v1.configure(probation=ProbationConfig(duration_s=0.05, deadline_s=0.2, samples_min=4))
    loaded: list[bytes] = []
    answer = ScriptedInference._answer

    def looking(self: ScriptedInference, message: object) -> None:
        if isinstance(message, Prepare) and message.artifact == V2.artifact:
            loaded.append((Path(message.folder) / "model.onnx").read_bytes())
        answer(self, message)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedInference, "_answer", looking)
        on_v1.start()
        assert on_v1.wait_for_end(V2, "committed") == "committed"
    assert set(loaded) == {V2.files["model.onnx"]}


def test_what_cannot_be_read_at_the_start_is_no_reason_to_go_back(on_v1: Rig) -> None:
    """Where the proof of a version on probation fails for want of descriptors it is done again."""
    on_v1.configure(probation=ProbationConfig(duration_s=600, deadline_s=600))
    on_v1.stop()
    on_v1.start()
    on_v1.server.assign(V2)
    on_v1.wait(lambda: "on_probation" in on_v1.server.states(V2), "probation")
    on_v1.stop()
    on_v1.configure(probation=ProbationConfig(duration_s=0.05, deadline_s=0.2, samples_min=4))
    refused: list[Digest] = []
    prove = Store.prove

    def without_descriptors(self: Store, artifact: Digest) -> None:
        if artifact == V2.artifact and not refused:
            refused.append(artifact)
            raise OSError(errno.EMFILE, "too many open files")
        prove(self, artifact)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "prove", without_descriptors)
        on_v1.start()
        assert on_v1.wait_for_end(V2, "committed") == "committed"
    assert refused == [V2.artifact]
    assert "rolled_back" not in on_v1.server.states(V2)
