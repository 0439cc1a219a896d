"""``edge-agent tune`` and what the agent makes of it, with measurements that the test plays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from device_agent.cli import main
from device_agent.cli.settings import read_config
from device_agent.cli.tune import Job
from device_agent.store import Slot, Store
from device_agent.tuning import read_kept
from tests.support.commands import Ran, run_main
from tests.support.held_models import damage, hold
from tests.support.onnx_models import linear
from tests.support.played_trials import PlayedTrials, Truth

MODEL = "team/digits"
MODULE = "device_agent.cli.tune"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path)
    store.slot_files.put(Slot(model=MODEL, active=hold(store, linear(2.0))))
    return store


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Two threads halve the latency, on a device with two cores that is idle."""
    seen: list[Job] = []

    def played(job: Job, _scratch: Path) -> PlayedTrials:
        seen.append(job)
        return PlayedTrials(lambda setting: Truth(latency_ms=10 / setting.threads))

    monkeypatch.setattr(f"{MODULE}.ProcessTrials", played)
    monkeypatch.setattr(f"{MODULE}._BUSY_S", 0.0)
    monkeypatch.setattr(f"{MODULE}.os.sched_getaffinity", lambda _: {0, 1})
    return seen


@pytest.fixture
def edge_agent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, store: Store
) -> Callable[..., Ran]:
    """Runs the command in this process, on the store."""

    def ran(*arguments: str) -> Ran:
        return run_main(main, [*arguments, "--state", str(store.root)], capsys, monkeypatch)

    return ran


def threads(store: Store, **flags: object) -> int:
    """What a start of the agent would serve the model with; 0: as it does by default."""
    config, _ = read_config({"state_dir": str(store.root), **flags}, device_needed=False)
    return config.models[MODEL].threads if MODEL in config.models else 0


def test_what_was_verified_is_served_from_the_next_start(
    edge_agent: Callable[..., Ran], store: Store, jobs: list[Job]
) -> None:
    """Kept, shown with where it comes from, used by the agent's settings, and forgotten."""
    dry = edge_agent("tune", MODEL, "--dry-run", "--json", "--busy")
    assert (dry.code, dry.document["kept"]) == (0, False), dry.err
    assert threads(store) == 0
    said = edge_agent("tune", MODEL, "--busy")
    assert said.code == 0
    assert "next start of the agent" in said.out
    kept = read_kept(store.root).models[MODEL]
    assert (kept.threads, kept.version, kept.goal) == (2, "1.0.0", "latency")
    assert threads(store) == 2
    shown = edge_agent("config", "show", "--json").document
    assert shown[f'models."{MODEL}".threads']["value"] == 2
    assert "tuned.json" in shown[f'models."{MODEL}".threads']["from"]
    assert jobs[0].folder == store.tree(store.slots()[0].active)
    assert jobs[0].golden_path is not None
    forgotten = edge_agent("tune", MODEL, "--forget", "--json").document
    assert forgotten == {"model": MODEL, "forgotten": True}
    assert threads(store) == 0


def test_what_the_operator_set_wins(
    edge_agent: Callable[..., Ran], store: Store, jobs: list[Job], tmp_path: Path
) -> None:
    """A file's setting of the model, or its engine_threads, stands above what was tuned, and
    the rest of the tuning still counts; where it does not, it is said."""
    assert edge_agent("tune", MODEL, "--busy").code == 0
    file = tmp_path / "agent.toml"
    file.write_text(f'[agent.models."{MODEL}"]\nthreads = 1\nweight = 3\n')
    config, settings = read_config(
        {"state_dir": str(store.root), "file": file}, device_needed=False
    )
    found = config.models[MODEL]
    assert (found.threads, found.weight) == (1, 3)
    assert found.loading == read_kept(store.root).models[MODEL].loading
    assert "says 1" in settings.shown()[f'models."{MODEL}".threads']["from"]
    file.write_text("[agent]\nengine_threads = 4\n")
    assert threads(store, file=file) == 0
    # The present setting is what is measured against.
    again = edge_agent("tune", MODEL, "--busy", "--json").document
    assert again["present"]["threads"] == 2
    assert again["best"] is None


def test_a_tuning_of_another_library_is_said_and_not_used(
    edge_agent: Callable[..., Ran], store: Store, jobs: list[Job]
) -> None:
    """After an update of the engine the old figures are a guess."""
    assert edge_agent("tune", MODEL, "--busy").code == 0
    path = store.root / "tuned.json"
    version = read_kept(store.root).models[MODEL].basis.version
    path.write_text(path.read_text().replace(f'"{version}"', '"0.0.1"'))
    assert threads(store) == 0
    shown = edge_agent("config", "show", "--json").document
    assert "not used: it was measured with" in shown[f'models."{MODEL}".threads']["from"]
    path.write_text("{")
    assert threads(store) == 0
    assert "cannot be read" in edge_agent("config", "show", "--json").document["tuned"]["from"]


def test_what_cannot_be_tuned_is_refused(
    edge_agent: Callable[..., Ran],
    store: Store,
    jobs: list[Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No such model, a busy device, too little memory, a version on probation, rotten files."""
    assert edge_agent("tune", "team/other", "--busy").code == 7
    monkeypatch.setattr("device_agent.load_test.machine.busy_share", lambda *_: 0.9)
    busy = edge_agent("tune", MODEL)
    assert (busy.code, "90% busy" in busy.err) == (6, True)
    assert edge_agent("tune", MODEL, "--busy", "--dry-run").code == 0
    with monkeypatch.context() as little:
        little.setattr("device_agent.serving.memory.available_bytes", lambda: 1 << 20)
        assert edge_agent("tune", MODEL, "--busy").code == 8
    active = store.slots()[0].active
    store.slot_files.put(Slot(model=MODEL, active=active, on_probation=True))
    assert edge_agent("tune", MODEL, "--busy").code == 6
    store.slot_files.put(Slot(model=MODEL, active=active))
    damage(store.tree(active) / "model.onnx")
    assert edge_agent("tune", MODEL, "--busy").code == 4
    assert len(jobs) == 1
    assert not (store.root / "tuned.json").exists()
