"""What is loaded from a manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.config import ModelConfig
from device_agent.serving.load import Loader, LoadOrder, order_of
from device_agent.store import Store
from edge_sdk.base import RefusedError
from edge_sdk.manifest import Requirements
from edge_sdk.tensor_pool import TensorPool
from tests.support import onnx_models
from tests.support.held_models import ENTRY, GOLDEN, hold
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
