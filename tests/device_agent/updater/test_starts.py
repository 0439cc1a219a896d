"""Starts that find the same candidate unfinished, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from device_agent.config import ProbationConfig
from device_agent.records import Prepare
from device_agent.store import Slot, Store
from device_agent.store.journal import Entered, read_records
from device_agent.updater.trial_values import TrialOutcome
from edge_sdk.manifest import Manifest
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig, ScriptedInference

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


def reason(rig: Rig) -> str:
    event = rig.server.last_event(V2)
    assert event is not None
    return event.reason


def last_event(rig: Rig) -> str:
    """What the journal's file ends with, as a power cut would leave it."""
    data = rig.updater.store.journal_path.read_bytes()
    return [record.event for record, _ in read_records(data) if isinstance(record, Entered)][-1]


def test_a_trial_that_takes_the_whole_device_down_is_given_up(on_v1: Rig) -> None:
    """Start after start finds the trial unfinished: each is in the journal before the
    candidate is tried again, and at last the version is refused and remembered."""
    found: list[str] = []
    over = threading.Event()

    def endless(*_: object) -> TrialOutcome:
        found.append(last_event(on_v1))
        over.wait(60)
        return TrialOutcome(ok=True)

    on_v1.trial = on_v1.updater.trier.trial = endless
    on_v1.server.assign(V2)
    try:
        for start in range(1, 6):
            on_v1.wait(lambda n=start: len(found) == n, "a trial")
            on_v1.stop()
            on_v1.start()
        assert on_v1.wait_for_end(V2) == "failed"
    finally:
        over.set()
    assert found == ["proof_complete", *["resumed"] * 4]
    assert reason(on_v1) == "CandidateRefusedError"
    assert on_v1.updater.journal.verdict(MODEL, str(V2.artifact), 1) is not None
    assert on_v1.active() == V1.artifact


def test_a_loading_that_takes_the_whole_device_down_is_given_up(
    on_v1: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same while inference loads what passed its trial."""
    asked: list[Prepare] = []
    answer = ScriptedInference._answer

    def deaf(self: ScriptedInference, message: object) -> None:
        if isinstance(message, Prepare) and message.artifact == V2.artifact:
            asked.append(message)
        else:
            answer(self, message)  # type: ignore[arg-type]

    monkeypatch.setattr(ScriptedInference, "_answer", deaf)
    on_v1.server.assign(V2)
    for start in range(1, 6):
        on_v1.wait(lambda n=start: len(asked) == n, "the question")
        on_v1.stop()
        on_v1.start()
    assert on_v1.wait_for_end(V2) == "failed"
    assert reason(on_v1) == "CandidateRefusedError"
    assert on_v1.active() == V1.artifact


def test_starts_while_another_candidate_is_tried_count_for_nobody_else(on_v1: Rig) -> None:
    """Who waits for its turn to be tried is not what takes the device down."""
    other = model_artifact(linear(5.0), name="team/other")
    over = threading.Event()
    tried: list[str] = []

    def endless(manifest: Manifest, *_: object) -> TrialOutcome:
        tried.append(str(manifest.model))
        if str(manifest.model) == MODEL:
            over.wait(60)
        return TrialOutcome(ok=True)

    on_v1.trial = on_v1.updater.trier.trial = endless
    on_v1.server.assign(V2)
    try:
        for start in range(1, 6):
            on_v1.wait(lambda n=start: tried.count(MODEL) == n, "a trial")
            on_v1.server.assign(V2, other)
            on_v1.stop()
            on_v1.start()
        assert on_v1.wait_for_end(V2) == "failed"
        assert on_v1.wait_for_end(other) == "committed"
    finally:
        over.set()


def test_a_candidate_that_takes_the_whole_device_down_is_given_up(on_v1: Rig) -> None:
    """One power cut during probation is nobody's fault; one after the other is a loop, and
    without an end to it the device would never come to rest."""
    on_v1.configure(probation=ProbationConfig(duration_s=600, deadline_s=600))
    on_v1.stop()
    on_v1.start()
    on_v1.server.assign(V2)
    on_v1.wait(lambda: "on_probation" in on_v1.server.states(V2), "probation")
    for _ in range(5):
        on_v1.stop()
        on_v1.start()
        on_v1.wait(lambda: on_v1.updater.peer.pid, "the hello")
    assert on_v1.wait_for_end(V2) == "rolled_back"
    assert reason(on_v1) == "CandidateRefusedError"
    assert Store(on_v1.state).slot_files.get(MODEL) == Slot(model=MODEL, active=V1.artifact)
