"""The inference door in this process, over models that need no store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from device_agent.config import ModelConfig
from device_agent.serving import Dispatcher, Generation, ModelTable
from device_agent.serving.cache import ResponseCache
from device_agent.serving.doors import FastLaneDoor, InferenceDoor
from device_agent.serving.load import Loader, LoadOrder
from device_agent.serving.scheduling import HIGH
from edge_sdk.base import Digest
from edge_sdk.tensor_pool import TensorPool
from tests.support import onnx_models


@dataclass
class Serving:
    """Everything between a socket and the engine."""

    table: ModelTable
    dispatcher: Dispatcher
    door: InferenceDoor
    lane: FastLaneDoor
    pool: TensorPool
    loader: Loader
    folder: Path

    def load(self, name: str, model: onnx.ModelProto, version: str = "1.0.0") -> Generation:
        return self.loader.load(order_for(name, model, self.folder, version=version))

    def serve(self, name: str, model: onnx.ModelProto, version: str = "1.0.0") -> Generation:
        generation = self.load(name, model, version)
        self.table.switch(generation)
        return generation

    def take_all_turns(self) -> None:
        """Nothing runs from here on until ``free_all_turns``."""
        scheduler = self.dispatcher.scheduler
        while scheduler.enter(scheduler.queue("team/nobody"), HIGH):
            pass

    def free_all_turns(self) -> None:
        scheduler = self.dispatcher.scheduler
        queue = scheduler.queue("team/nobody")
        while queue.running:
            scheduler.leave(queue, HIGH, 0)


def order_for(
    name: str, model: onnx.ModelProto, folder: Path, *, version: str = "1.0.0"
) -> LoadOrder:
    path = onnx_models.save(model, folder / name / version / "model.onnx")
    return LoadOrder(
        model=name,
        artifact=Digest.of(f"{name} {version}".encode()),
        version=version,
        variant="fp32",
        folder=path.parent,
        entry=path.name,
        engine="onnxruntime",
        golden_path=None,
    )


def serving(
    folder: Path,
    models: Mapping[str, onnx.ModelProto] | None = None,
    *,
    ready: bool = True,
    caches: Mapping[str, ResponseCache] | None = None,
    settings: Mapping[str, ModelConfig] | None = None,
) -> Serving:
    """Not open yet; the pool checks that every tensor lies in it."""
    pool = TensorPool(budget_bytes=1 << 28, check=True)
    table = ModelTable()
    loader = Loader(pool, threads=1, caches=caches, models=settings)
    dispatcher = Dispatcher(table, running_max=2, models=settings)
    made = Serving(
        table,
        dispatcher,
        InferenceDoor(table, dispatcher),
        FastLaneDoor(dispatcher, pool),
        pool,
        loader,
        folder,
    )
    for name, model in (models or {}).items():
        made.serve(name, model)
    if ready:
        table.set_ready()
    return made


@contextmanager
def listening(
    folder: Path,
    models: Mapping[str, onnx.ModelProto],
    *,
    lane: bool = True,
    settings: Mapping[str, ModelConfig] | None = None,
) -> Iterator[Serving]:
    """The same, on a Unix socket in ``folder``, and on the fast lane beside it."""
    made = serving(folder / "models", models, settings=settings)
    made.door.open(f"unix:{folder}/inference.sock")
    if lane:
        made.lane.open(made.door.address)
    try:
        yield made
    finally:
        made.lane.close()
        made.door.close()
