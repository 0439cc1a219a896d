"""One trial at a time, and none that nobody waits for."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from device_agent.config import AgentConfig
from device_agent.updater import trial
from device_agent.updater.trial import Stop, run_child
from device_agent.updater.trial_values import TrialOutcome
from edge_sdk.manifest import Manifest
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear
from tests.support.updater_rig import Rig

V1 = model_artifact(linear(1.0), version="1.0.0")
V2 = model_artifact(linear(2.0), version="2.0.0")
V3 = model_artifact(linear(3.0), version="3.0.0")


class EndlessTrials:
    """A trial of version 2 is a real child that never ends by itself; all others pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            trial, "_COMMAND", (sys.executable, "-c", "import time; time.sleep(600)")
        )
        self.running: set[str] = set()
        self.together: list[set[str]] = []
        self.ended: list[int | None] = []
        self.began = threading.Event()

    def __call__(
        self, manifest: Manifest, folder: Path, config: AgentConfig, stop: Stop
    ) -> TrialOutcome:
        version = str(manifest.version)
        self.running.add(version)
        self.together.append(set(self.running))
        try:
            if version == "2.0.0":
                self.began.set()
                self.ended.append(run_child((), b"", timeout_s=300, stop=stop)[0])
            return TrialOutcome(ok=True)
        finally:
            self.running.remove(version)


def on_endless_trial(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> EndlessTrials:
    """The device runs version 1, and tries version 2 for ever."""
    rig.trial = trials = EndlessTrials(monkeypatch)  # type: ignore[assignment]
    rig.server.assign(V1)
    rig.start()
    assert rig.wait_for_end(V1) == "committed"
    rig.server.assign(V2)
    rig.wait(trials.began.is_set, "the trial to begin")
    return trials


def test_a_newer_assignment_ends_the_trial_of_the_older(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child of the version that nobody wants any more is killed; only then is the next one
    tried."""
    trials = on_endless_trial(rig, monkeypatch)
    rig.server.assign(V3)
    assert rig.wait_for_end(V3) == "committed"
    assert trials.ended == [-9]
    assert all(len(together) == 1 for together in trials.together)
    assert rig.server.states(V2)[-1] == "failed"
    event = rig.server.last_event(V2)
    assert event is not None
    assert event.reason == "SupersededError"


def test_no_trial_outlives_its_updater(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An updater that is told to end takes the child with it."""
    trials = on_endless_trial(rig, monkeypatch)
    rig.stop()
    rig.wait(lambda: trials.ended == [-9], "the child to end")


def test_a_killed_updater_takes_its_trial_with_it() -> None:
    """SIGKILL leaves it no time to end anything; its successor shall not try beside it."""
    tried = (
        "from device_agent.updater.trial_child import die_with_updater; import os, time;"
        "die_with_updater(); print(os.getpid(), flush=True); time.sleep(600)"
    )
    updater = (
        "import subprocess, sys;"
        f"child = subprocess.Popen([sys.executable, '-c', {tried!r}]); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", updater], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = psutil.Process(int(process.stdout.readline()))
        process.kill()
        assert psutil.wait_procs([child], timeout=30)[1] == []


def test_a_trial_that_was_stopped_before_its_child_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is killed as soon as it is there."""
    EndlessTrials(monkeypatch)
    stop = Stop()
    stop.ask()
    assert run_child((), b"", timeout_s=60, stop=stop) == (-9, b"")
