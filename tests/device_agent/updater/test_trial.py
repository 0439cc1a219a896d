"""Trials in a real child process: whatever a candidate does, it does there."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from device_agent.config import AgentConfig
from device_agent.updater import trial, trial_child
from device_agent.updater.trial import find_engines, run_child, try_candidate
from device_agent.updater.trial_values import EngineFound, TrialOutcome, TrialSpec
from edge_sdk.base import ResourceError, UnavailableError
from tests.support.artifacts import ArtifactBytes
from tests.support.model_artifacts import model_artifact
from tests.support.onnx_models import linear

CONFIG = AgentConfig(state_dir="/nowhere", device="kiosk-7", trial_timeout_s=60)
GOOD = model_artifact(linear(1.0))


def folder_of(artifact: ArtifactBytes, root: Path) -> Path:
    for path, data in artifact.files.items():
        (root / path).write_bytes(data)
    return root


def script(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """The child runs ``code`` instead of a trial."""
    monkeypatch.setattr(trial, "_COMMAND", (sys.executable, "-c", code))


def test_a_good_candidate_passes(tmp_path: Path) -> None:
    """It loads and its golden sample agrees, in a process of its own."""
    outcome = try_candidate(GOOD.manifest, folder_of(GOOD, tmp_path), CONFIG)
    assert outcome.ok
    assert len(outcome.compute_ns) == 3
    assert outcome.load_ms > 0


def test_other_answers_are_refused(tmp_path: Path) -> None:
    """The message says which output differs, and where."""
    wrong = model_artifact(linear(2.0), golden_of=linear(1.0))
    outcome = try_candidate(wrong.manifest, folder_of(wrong, tmp_path), CONFIG)
    assert (outcome.ok, outcome.reason) == (False, "CandidateRefusedError")
    assert "output 'y' differs" in outcome.message


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """The engine's or format's error travels by name."""
    folder = folder_of(GOOD, tmp_path)
    (folder / "model.onnx").write_bytes(b"not a model at all" * 9)
    outcome = try_candidate(GOOD.manifest, folder, CONFIG)
    assert not outcome.ok
    assert outcome.reason == "FormatError"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS"])
def test_death_by_signal_is_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A candidate that kills its engine costs nothing but its trial."""
    code = "import os, resource, signal; resource.setrlimit(resource.RLIMIT_CORE, (0, 0));"
    script(monkeypatch, f"{code} os.kill(os.getpid(), signal.{name})")
    outcome = try_candidate(GOOD.manifest, tmp_path, CONFIG)
    assert (outcome.ok, outcome.reason) == (False, "CandidateRefusedError")
    assert name in outcome.message


def test_a_trial_without_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time allowed the child is gone and the candidate refused."""
    script(monkeypatch, "import time; time.sleep(600)")
    config = AgentConfig(state_dir="/nowhere", device="kiosk-7", trial_timeout_s=0.3)
    outcome = try_candidate(GOOD.manifest, tmp_path, config)
    assert not outcome.ok
    assert "did not end" in outcome.message


def test_no_answer_is_no_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that could not even start says nothing about the candidate."""
    script(monkeypatch, "raise SystemExit(3)")
    with pytest.raises(UnavailableError):
        try_candidate(GOOD.manifest, tmp_path, CONFIG)
    with pytest.raises(UnavailableError):
        find_engines()


def test_memory_is_no_verdict_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory is ResourceError: tried again, not remembered."""
    answer = msgspec.json.encode(TrialOutcome(ok=False, reason="ResourceError", message="m"))
    script(monkeypatch, f"import os, sys; os.write(int(sys.argv[2]), {answer!r})")
    with pytest.raises(ResourceError):
        try_candidate(GOOD.manifest, tmp_path, CONFIG)


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child cannot fill the updater's memory."""
    code = "import os, sys\nwhile True: os.write(int(sys.argv[2]), b'x' * 65536)"
    script(monkeypatch, code)
    assert run_child((), b"", timeout_s=20) == (None, b"")


def test_engines_are_found_without_loading_them_here() -> None:
    """The child knows them; this process imports none for it."""
    found = {engine.name: engine for engine in find_engines()}
    assert found["onnxruntime"].ir_version_max
    assert found["onnxruntime"].opset_max[""] > 10


def spec(folder: Path, artifact: ArtifactBytes = GOOD, **more: object) -> TrialSpec:
    fields = {
        "folder": str(folder_of(artifact, folder)),
        "entry": "model.onnx",
        "engine": "onnxruntime",
        "golden_path": "golden.safetensors",
        "tolerances": {"y": ("1e-5", "1e-4")},
        "threads": 1,
        "memory_bytes": 0,
        "cpu_s": 60,
    }
    return TrialSpec(**{**fields, **more})  # type: ignore[arg-type]


def test_the_childs_work(tmp_path: Path) -> None:
    """The same in this process: good, without a golden sample, unknown engine."""
    assert trial_child.attempt(spec(tmp_path)).ok
    loaded = trial_child.attempt(spec(tmp_path, golden_path=None))
    assert loaded.ok
    assert "no golden sample" in loaded.message
    unknown = trial_child.attempt(spec(tmp_path, engine="abacus"))
    assert unknown.reason == "NotFoundError"
    wrong = model_artifact(linear(2.0), golden_of=linear(1.0))
    assert trial_child.attempt(spec(tmp_path, wrong)).reason == "CandidateRefusedError"


@pytest.mark.parametrize(
    ("error", "reason"), [(MemoryError(), "ResourceError"), (ZeroDivisionError(), "EngineError")]
)
def test_any_failure_of_a_candidate_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    """Exceptions that are not ours are answers too."""

    def fail(spec: TrialSpec) -> TrialOutcome:
        raise error

    monkeypatch.setattr(trial_child, "_attempt", fail)
    assert trial_child.attempt(spec(tmp_path)).reason == reason


def test_limits_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No core, bounded files, processor time and data; lower priority."""
    limits: dict[int, tuple[int, int]] = {}
    import os
    import resource

    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    monkeypatch.setattr(os, "nice", lambda step: step)
    trial_child.limit_process(spec(tmp_path, memory_bytes=1 << 30, cpu_s=7))
    assert limits[resource.RLIMIT_CORE] == (0, 0)
    assert limits[resource.RLIMIT_CPU] == (7, 12)
    assert limits[resource.RLIMIT_DATA] == (1 << 30, 1 << 30)
    assert limits[resource.RLIMIT_NOFILE][0] <= 1024


def test_facts_of_the_engines_here() -> None:
    """What ``--facts`` answers with."""
    assert all(isinstance(one, EngineFound) for one in trial_child.engines_found())
