"""What is loaded from a manifest."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.config import AgentConfig, ModelConfig
from device_agent.serving.load import Loader, LoadOrder, order_of
from device_agent.store import Slot, Store
from device_agent.store.quota import PLANS_FOLDER, used_bytes
from device_agent.updater.trial import try_candidate
from device_agent.updater.trial_child import attempt
from device_agent.updater.trial_values import TrialOutcome, TrialSpec
from edge_sdk.base import Digest, RefusedError
from edge_sdk.engines import PlanRoom
from edge_sdk.engines.tensorrt import TensorRt
from edge_sdk.manifest import Requirements
from edge_sdk.tensor_pool import TensorPool
from tests.support import onnx_models
from tests.support.fake_gpu import FakeGpu
from tests.support.fake_tensorrt import fake_tensorrt
from tests.support.held_models import ENTRY, GOLDEN, hold
from tests.support.inference_process import Inference, inference
from tests.support.serving_door import serving


def test_an_order_says_what_the_manifest_says(tmp_path: Path) -> None:
    """Entry, engine, golden sample and signature come from the manifest."""
    store = Store.create(tmp_path / "state")
    artifact = hold(store, onnx_models.linear(1.0), version="3.0.0")
    manifest = store.manifest(artifact)
    order = order_of(artifact, manifest, store.tree(artifact))
    assert (order.entry, order.golden_path, order.version) == (ENTRY, GOLDEN, "3.0.0")
    assert order.inputs == manifest.signature.inputs
    assert order.engine == "onnxruntime"
    with pytest.raises(RefusedError, match="names no engine"):
        order_of(artifact, replace(manifest, requires=Requirements()), store.tree(artifact))


MODEL = "team/digits"
WEIGHTS_BYTES = 4 * 128 * 128


@pytest.fixture
def order(tmp_path: Path) -> LoadOrder:
    """A model with one matrix of 64 KiB."""
    store = Store.create(tmp_path / "state")
    artifact = hold(store, onnx_models.mlp((128, 128)), name=MODEL)
    return order_of(artifact, store.manifest(artifact), store.tree(artifact))


def loader(config: ModelConfig, *, memory_bytes: int = 0) -> Loader:
    pool = TensorPool(budget_bytes=1 << 22, check=True)
    return Loader(pool, threads=1, models={MODEL: config}, memory_bytes=memory_bytes)


def is_mapped(order: LoadOrder) -> bool:
    return f"/{order.entry}" in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    ("config", "memory_bytes", "mapped"),
    [
        (ModelConfig(loading="mapped"), 0, True),
        (ModelConfig(loading="prepacked"), WEIGHTS_BYTES, False),
        (ModelConfig(), WEIGHTS_BYTES, True),
        (ModelConfig(), 64 * WEIGHTS_BYTES, False),
        (ModelConfig(batch_max=4), WEIGHTS_BYTES, False),
    ],
)
def test_weights_stay_in_their_file_as_configured(
    order: LoadOrder, config: ModelConfig, memory_bytes: int, mapped: bool
) -> None:
    """As said, or else by what models may use; what was done is part of who answers."""
    generation = loader(config, memory_bytes=memory_bytes).load(order)
    try:
        assert is_mapped(order) is mapped
        how = "mapped" if mapped else "prepacked"
        assert f"1 threads, {how}," in generation.identity.runs_on
    finally:
        generation.close()
    assert not is_mapped(order)


def test_threads_and_providers_reach_the_engine(order: LoadOrder) -> None:
    """A model's own settings count before the agent's, and what is not there is refused."""
    generation = loader(ModelConfig(threads=2, providers=("cpu",))).load(order)
    generation.close()
    assert "2 threads, prepacked, cpu" in generation.identity.runs_on
    with pytest.raises(RefusedError, match=r"CUDAExecutionProvider.*available"):
        loader(ModelConfig(providers=("cuda",))).load(order)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"cat\nguide dog\n", ("cat", "guide dog")),
        ("k\u00e4tze\r\n\nhund".encode(), ("k\u00e4tze", "", "hund")),
        *((b"\xff\xfe", ()), (b"x" * ((1 << 20) + 1), ()), (None, ())),
    ],
)
def test_labels_come_with_the_artifact(
    tmp_path: Path, content: bytes | None, expected: tuple[str, ...]
) -> None:
    """One on each line of labels.txt beside the model; a file that is no such list names none,
    and the model is served all the same."""
    made = serving(tmp_path)
    folder = tmp_path / "team/digits" / "1.0.0"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "labels.txt").write_bytes(content)
    assert made.serve("team/digits", onnx_models.linear(1.0)).identity.labels == expected


class GpuDevice:
    """A device with the engine tensorrt on stand-ins, its store, and trials before serving."""

    def __init__(self, top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store.create(top / "state")
        self.config = AgentConfig(state_dir=str(self.store.root), device="orin-1")
        self.gpu = FakeGpu()
        self.library = fake_tensorrt(self.gpu)
        for where in ("device_agent.serving.load", "edge_sdk.engines"):
            monkeypatch.setattr(f"{where}.open_engine", self.open)
        pool = TensorPool(budget_bytes=1 << 22, check=True)
        self.loader = Loader(pool, threads=1, plans=self.plans())

    def open(self, name: str) -> TensorRt:
        assert name == "tensorrt"
        return TensorRt(library=self.library, device=self.gpu)

    def plans(self) -> PlanRoom:
        return PlanRoom(
            folder=self.store.root / PLANS_FOLDER,
            room_bytes=lambda: 1 << 20,
            held=self.store.artifacts.all,
        )

    def hold(self, number: int) -> LoadOrder:
        model = onnx_models.linear(float(number))
        artifact = hold(self.store, model, version=f"{number}.0.0", engine="tensorrt")
        return order_of(artifact, self.store.manifest(artifact), self.store.tree(artifact))

    def try_it(self, order: LoadOrder, monkeypatch: pytest.MonkeyPatch) -> TrialOutcome:
        """The trial's own code, in this process: the stand-ins are here."""
        spec = {}

        def child(
            arguments: tuple[str, ...], stdin: bytes, **more: object
        ) -> tuple[int | None, bytes]:
            spec["it"] = msgspec.json.decode(stdin, type=TrialSpec)
            return 0, msgspec.json.encode(attempt(spec["it"]))

        monkeypatch.setattr("device_agent.updater.trial.run_child", child)
        return try_candidate(self.store.manifest(order.artifact), order.folder, self.config)


def test_a_plan_is_built_in_the_trial_and_loaded_to_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The minutes of a build are spent in the trial's child; what serves loads what it left,
    and an update of weights refits there too."""
    device = GpuDevice(tmp_path, monkeypatch)
    first, second = device.hold(1), device.hold(2)
    assert device.try_it(first, monkeypatch).ok
    serving_first = device.loader.load(first)
    assert device.try_it(second, monkeypatch).ok
    serving_second = device.loader.load(second)
    made = [one.session.made_by for one in (serving_first, serving_second)]  # type: ignore[attr-defined]
    assert made == ["load", "load"]
    assert (len(device.library.seen.builds), device.library.seen.refits) == (1, 1)
    x = np.ones((3, 4), np.float32)
    for factor, generation in enumerate((serving_first, serving_second), 1):
        slot = generation.slots.take([(3, 4)])
        slot.inputs["x"][...] = x
        assert (slot.run()["y"] == factor * x).all()
        generation.slots.put_back(slot)
    assert used_bytes(device.store) > sum(
        path.stat().st_size for path in (device.store.root / PLANS_FOLDER).iterdir()
    )
    serving_first.close()
    serving_second.close()


def test_what_did_not_work_with_a_plan_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A plan that was damaged on the disk: built anew, and a line says why it took so long."""
    device = GpuDevice(tmp_path, monkeypatch)
    order = device.hold(1)
    device.loader.load(order).close()
    (plan,) = (device.store.root / PLANS_FOLDER).glob("*.plan")
    plan.write_bytes(plan.read_bytes()[:-1] + b"?")
    device.loader.load(order).close()
    assert "our index says" in capsys.readouterr().err
    assert len(device.library.seen.builds) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_settings_reach_the_process_that_serves(tmp_path: Path) -> None:
    """Configured as mapped, weights stay in their file; those of a dropped artifact are let go."""
    store = Store.create(tmp_path / "state")
    one = hold(store, onnx_models.mlp((128, 128), seed=1), name=MODEL)
    two = hold(store, onnx_models.mlp((128, 128), seed=2), name=MODEL, version="2.0.0")
    store.slot_files.put(Slot(model=MODEL, active=one))

    def mapped(running: Inference) -> set[int]:
        lines = Path(f"/proc/{running.process.pid}/maps").read_text().splitlines()
        return {int(line.split()[4]) for line in lines if line.endswith(ENTRY)}

    def inode(artifact: Digest) -> int:
        return (store.tree(artifact) / ENTRY).stat().st_ino

    with inference(store, models={MODEL: ModelConfig(loading="mapped")}) as running:
        assert mapped(running) == {inode(one)}
        assert running.prepare(two).ok
        assert mapped(running) == {inode(one), inode(two)}
        assert running.switch(two).ok
        running.drop(MODEL, one)
        assert mapped(running) == {inode(two)}
