"""From an artifact's folder to a warm generation. Run off the request path, in a slow lane."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_agent.config import ModelConfig
from device_agent.serving import memory
from device_agent.serving.batch_trial import has_rows, try_batches
from device_agent.serving.cache import ResponseCache
from device_agent.serving.generation import Generation, Identity
from device_agent.serving.on_page import statistics_for
from device_agent.serving.sequences import SequenceStates
from device_agent.statistics_page import PageWriter
from edge_sdk.base import Digest, EdgeError, RefusedError
from edge_sdk.base.processor import processor
from edge_sdk.engines import (
    Engine,
    KnownModel,
    PlanRoom,
    choose_loading,
    is_quantised,
    load_model,
    open_engine,
)
from edge_sdk.engines.contract import Array, Session, shape_fits
from edge_sdk.engines.golden import golden_inputs, seeded_inputs
from edge_sdk.formats import read_safetensors
from edge_sdk.manifest import Manifest, TensorSpec, Tolerance
from edge_sdk.tensor_pool import TensorPool

LABELS_FILE = "labels.txt"
_LABELS_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOrder:
    """What to load: the same facts whether the updater or a slot asks for it."""

    model: str
    artifact: Digest
    version: str
    variant: str
    folder: Path
    entry: str
    engine: str
    golden_path: str | None
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = field(default=())
    outputs: tuple[TensorSpec, ...] = field(default=())


def order_of(artifact: Digest, manifest: Manifest, folder: Path) -> LoadOrder:
    """Raises: RefusedError where the manifest names no engine."""
    if manifest.requires.engine is None:
        raise RefusedError(f"{manifest.model} {manifest.version} names no engine to run it")
    return LoadOrder(
        model=str(manifest.model),
        artifact=artifact,
        version=str(manifest.version),
        variant=manifest.variant,
        folder=folder,
        entry=manifest.entry,
        engine=manifest.requires.engine,
        golden_path=manifest.golden.path if manifest.golden else None,
        tolerances=manifest.golden.tolerances if manifest.golden else {},
        inputs=manifest.signature.inputs,
        outputs=manifest.signature.outputs,
    )


class Loader:
    """Loads with one engine of each kind, on one pool."""

    def __init__(
        self,
        pool: TensorPool,
        *,
        threads: int,
        caches: Mapping[str, ResponseCache] | None = None,
        models: Mapping[str, ModelConfig] | None = None,
        memory_bytes: int = 0,
        page: PageWriter | None = None,
        plans: PlanRoom | None = None,
    ) -> None:
        """``caches`` and ``models``: by model, for those that have one or settings of their own.

        ``memory_bytes``: what models may use; 0: all that the machine has. ``page``: where
        others see statistics. ``plans``: where engines may keep what they make of models;
        None: nowhere.
        """
        self._plans = plans
        self._caches = caches or {}
        self._page = page
        self._pool = pool
        self._threads = threads
        self._models = models or {}
        self._memory_bytes = memory_bytes
        self._engines: dict[str, Engine] = {}

    def load(self, order: LoadOrder) -> Generation:
        """A generation whose buffers for its golden inputs are bound, and which has run once.

        Raises: NotFoundError, FormatError, RefusedError (engine missing, or a model that is
        not what its manifest says), ResourceError, EngineError.
        """
        begin_s = time.monotonic()
        before_bytes = memory.status_bytes("RssAnon")
        settings = self._decided(order)
        session = load_model(
            self._engine(order.engine),
            order.folder / order.entry,
            self._known(order, settings),
            threads=settings.threads,
            loading=settings.loading,
            providers=settings.providers,
        )
        for note in getattr(session, "notes", ()):
            sys.stderr.write(f"inference: {order.model} {order.version}: {note}\n")
        _check_signature(order, session)
        states = self._states(order, session, settings)
        identity = Identity(
            model=order.model,
            artifact=order.artifact,
            version=order.version,
            variant=order.variant,
            engine=order.engine,
            entry=order.entry,
            runs_on=self._runs_on(order.engine, settings),
            golden=_replayed(order, session),
            labels=_labels(order.folder),
            tolerances=order.tolerances,
        )
        rows_max = settings.batch_max if has_rows(session) else 1
        generation = Generation(
            identity,
            session,
            self._pool,
            self._caches.get(order.model),
            statistics_for(identity, self._page),
            rows_max=rows_max,
            states=states,
        )
        try:
            warm(generation)
            generation.batch_costs = try_batches(generation, rows_max)
        except BaseException:
            generation.close()
            raise
        generation.load_ms = (time.monotonic() - begin_s) * 1000
        # Memory that was freed before and is used again does not show as growth.
        grown_bytes = memory.status_bytes("RssAnon") - before_bytes
        generation.memory_bytes = max(grown_bytes, _files_bytes(order.folder))
        generation.statistics.set_loaded(
            memory_bytes=generation.memory_bytes, load_ms=generation.load_ms
        )
        return generation

    def _states(
        self, order: LoadOrder, session: Session, settings: ModelConfig
    ) -> SequenceStates | None:
        if not settings.states:
            return None
        try:
            return SequenceStates(
                order.model,
                session,
                self._pool,
                settings.states,
                starts=settings.states_start,
                budget_bytes=settings.states_bytes,
                idle_s=settings.states_idle_s,
            )
        except RefusedError:
            session.close()
            raise

    def trim(self) -> None:
        """Gives memory that no loaded model uses back to the system; slow, so off requests."""
        self._pool.trim()
        memory.give_back()

    def settings(self, model: str) -> ModelConfig:
        """How a model is to be served, its threads said in any case."""
        wanted = self._models.get(model, ModelConfig())
        return wanted if wanted.threads else replace(wanted, threads=self._threads)

    def _decided(self, order: LoadOrder) -> ModelConfig:
        """The settings with the way of loading that is taken now."""
        settings = self.settings(order.model)
        loading = choose_loading(
            settings.loading,
            known=self._engine(order.engine).facts().loadings,
            model_bytes=_files_bytes(order.folder),
            free_bytes=min(memory.available_bytes(), self._memory_bytes or sys.maxsize),
            batch_max=settings.batch_max,
            is_quantised=lambda: is_quantised(order.folder / order.entry),
        )
        return replace(settings, loading=loading)

    def _known(self, order: LoadOrder, settings: ModelConfig) -> KnownModel | None:
        if self._plans is None:
            return None
        return KnownModel(
            artifact=order.artifact,
            room=self._plans,
            batch_max=settings.batch_max,
            golden=order.folder / order.golden_path if order.golden_path is not None else None,
            tolerances=order.tolerances,
            options=settings.engine_options,
        )

    def _runs_on(self, engine: str, settings: ModelConfig) -> str:
        facts = self._engine(engine).facts()
        how = f"{settings.threads} threads, {settings.loading}, {','.join(settings.providers)}"
        return f"{engine} {facts.version}, {how}, {facts.device or processor()}"

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            self._engines[name] = open_engine(name)
        return self._engines[name]


def _files_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def warm(generation: Generation) -> None:
    """Binds buffers for the golden inputs and runs twice: the second run is as all later ones."""
    golden = generation.identity.golden
    names = [spec.name for spec in generation.session.inputs]
    slot = generation.slots.take([golden[name].shape for name in names])
    try:
        for name in names:
            slot.inputs[name][...] = golden[name]
        slot.run()
        slot.finish()
        slot.run()
    finally:
        generation.slots.put_back(slot)


def warm_as(generation: Generation, before: Generation) -> None:
    """Binds buffers for what the version before is asked with, beyond the golden inputs, so
    that no request after the switch has to. What this version does not take is left out."""
    specs = generation.session.inputs
    if [spec.name for spec in specs] != [spec.name for spec in before.session.inputs]:
        return
    for shapes in before.slots.shapes():
        if not all(shape_fits(spec.shape, one) for spec, one in zip(specs, shapes, strict=True)):
            continue
        inputs = seeded_inputs(
            [replace(spec, shape=shape) for spec, shape in zip(specs, shapes, strict=True)]
        )
        with contextlib.suppress(EdgeError):
            slot = generation.slots.take(shapes)
            try:
                for name, array in inputs.items():
                    slot.inputs[name][...] = array
                slot.run()
            finally:
                generation.slots.put_back(slot)


def _replayed(order: LoadOrder, session: Session) -> Mapping[str, Array]:
    if order.golden_path is None:
        return seeded_inputs(session.inputs)
    return golden_inputs(session, read_safetensors(order.folder / order.golden_path))


def _labels(folder: Path) -> tuple[str, ...]:
    """The names of the classes, one on each line, where the publisher put that file beside the
    model. A file that is no such list names none: the model serves without."""
    path = folder / LABELS_FILE
    try:
        if path.stat().st_size > _LABELS_BYTES_MAX:
            return ()
        return tuple(line.strip() for line in path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError):
        return ()


def _check_signature(order: LoadOrder, session: Session) -> None:
    """The loaded model must be the one that its manifest describes. An empty side is not held."""
    for what, wanted, got in (
        ("inputs", order.inputs, session.inputs),
        ("outputs", order.outputs, session.outputs),
    ):
        if not wanted:
            continue
        stated = {spec.name: (spec.dtype, len(spec.shape)) for spec in wanted}
        loaded = {spec.name: (spec.dtype, len(spec.shape)) for spec in got}
        if stated != loaded:
            session.close()
            raise RefusedError(
                f"{order.model} {order.version} has {what} {loaded}, its manifest says {stated}"
            )
