"""Settings of a real model in real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from device_agent.config import ModelConfig
from device_agent.tuning import Job, ProcessTrials, Setting
from edge_sdk.base import Digest, EdgeError, RefusedError
from tests.support.onnx_models import mlp, save


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    path = save(mlp((64, 32, 10)), tmp_path_factory.mktemp("model") / "model.onnx")
    yield Job(
        model="team/digits",
        folder=path.parent,
        entry=path.name,
        artifact=Digest.of(b"artifact"),
        engine="onnxruntime",
        golden_path=None,
        served=ModelConfig(),
    )


def tried() -> psutil.Process:
    """The process of the setting: this one may have children of other tests."""
    mine = psutil.Process().children()
    (found,) = (one for one in mine if "device_agent.tuning.child" in " ".join(one.cmdline()))
    return found


@pytest.mark.processes_measured
def test_a_setting_is_measured_through_the_dispatcher(job: Job) -> None:
    """One client gives latencies, three give more answers than one thread's; it runs at low
    priority, and has ended when the block has."""
    with ProcessTrials(job, job.folder.parent).open(
        Setting(threads=1, loading="mapped", batch_max=4)
    ) as trial:
        child = tried()
        assert child.nice() > psutil.Process().nice()
        assert trial.loaded.takes_batches
        assert set(trial.loaded.loadings) >= {"mapped", "prepacked"}
        assert trial.loaded.library == "onnxruntime"
        alone = trial.measure(0.05, 1)
        together = trial.measure(0.05, 3)
    assert alone.count >= 3
    assert all(0 < one < 60e9 for one in alone.latencies_ns)
    assert together.count >= 3
    assert together.seconds >= 0.05
    assert not child.is_running()


def test_what_cannot_be_loaded_is_the_engines_own_error(job: Job, tmp_path: Path) -> None:
    """A damaged model, or a provider that is not here, is said as where it serves."""
    (tmp_path / "model.onnx").write_bytes(b"no model")
    damaged = Job(**{**{name: getattr(job, name) for name in Job.__slots__}, "folder": tmp_path})
    with (
        pytest.raises(EdgeError),
        ProcessTrials(damaged, tmp_path).open(Setting(threads=1, loading="auto", batch_max=1)),
    ):
        pass
    served = ModelConfig(providers=("abacus",))
    elsewhere = Job(**{**{name: getattr(job, name) for name in Job.__slots__}, "served": served})
    with (
        pytest.raises(RefusedError, match="abacus"),
        ProcessTrials(elsewhere, tmp_path).open(Setting(threads=1, loading="auto", batch_max=1)),
    ):
        pass


def test_a_process_that_dies_is_a_refusal(job: Job) -> None:
    """A setting that kills its process is passed over like one that the engine refuses."""
    with ProcessTrials(job, job.folder.parent).open(
        Setting(threads=1, loading="auto", batch_max=1)
    ) as trial:
        tried().kill()
        with pytest.raises(RefusedError, match="ended"):
            trial.measure(0.05, 1)
