"""The engine ``tensorrt``: from an ONNX artifact to a session, by the cheapest trusted step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from edge_sdk.base import (
    EdgeError,
    FormatError,
    NotFoundError,
    ProofError,
    RefusedError,
    ResourceError,
)
from edge_sdk.engines.contract import (
    Array,
    EngineFacts,
    Loading,
    Shape,
    check_loading,
    check_providers,
)
from edge_sdk.engines.errors import EngineError
from edge_sdk.engines.golden import INPUT, replay
from edge_sdk.engines.known import KnownModel
from edge_sdk.engines.tensorrt import calls
from edge_sdk.engines.tensorrt.device import CudaDevice, Device
from edge_sdk.engines.tensorrt.library import (
    MODULES,
    ICudaEngine,
    Library,
    import_tensorrt,
    make_log,
)
from edge_sdk.engines.tensorrt.plans import Plans
from edge_sdk.engines.tensorrt.rules import (
    Kept,
    Options,
    PlanKey,
    Profile,
    builder_flags,
    check_version,
    choose,
    profiles_of,
    with_options,
)
from edge_sdk.engines.tensorrt.session import MadeBy, TensorRtSession
from edge_sdk.engines.tensorrt.structure import structure_of
from edge_sdk.formats import TensorMap, open_model, read_safetensors


class TensorRt:
    """The engine ``tensorrt``. Nothing of it has run on a GPU yet: see the room's docstring."""

    libraries = MODULES

    def __init__(
        self,
        *,
        options: Options | None = None,
        library: Library | None = None,
        device: Device | None = None,
    ) -> None:
        """``library``, ``device``: stand-ins. Raises: RefusedError (no TensorRT, no GPU)."""
        self.options = options or Options()
        self.library = library or import_tensorrt()
        check_version(self.library.__version__)
        self.device = device or CudaDevice()
        self.log = make_log(self.library)
        try:
            self._runtime = self.library.Runtime(self.log)
        except calls.LIBRARY_ERRORS as error:  # the bindings raise where the library gives null
            raise RefusedError(
                f"TensorRT does not start: {self.log.last()} ({error})", engine="tensorrt"
            ) from None

    def facts(self) -> EngineFacts:
        """Its parser tries models of any version: only a trial tells which it can build."""
        place = self.device.place()
        return EngineFacts(
            name="tensorrt",
            version=str(self.library.__version__),
            ir_version_max=None,
            opset_max={},
            device=f"{place.gpu} {place.compute}, {place.processors}, {place.driver}",
        )

    def load(
        self,
        entry: Path,
        *,
        threads: int = 1,
        loading: Loading = "auto",
        providers: Sequence[str] = (),
    ) -> TensorRtSession:
        """Builds a plan and keeps nothing. ``threads`` means nothing to a GPU.

        Raises: NotFoundError, FormatError, RefusedError.
        """
        check_loading("tensorrt", loading, ("auto",))
        check_providers("tensorrt", providers, ())
        profiles = profiles_for(_onnx(entry), {}, self.options)
        built = calls.build(self.library, self.log, entry, profiles, self.options)
        return self.open_engine(self.deserialized(built.plan), profiles, made_by="build")

    def load_known(
        self,
        entry: Path,
        known: KnownModel,
        *,
        threads: int = 1,
        loading: Loading = "auto",
        providers: Sequence[str] = (),
    ) -> TensorRtSession:
        """Loads the plan that was kept of the artifact, refits one that differs in weights
        only, or builds one; what was made is kept where there is room.

        Raises: NotFoundError, FormatError, RefusedError.
        """
        check_loading("tensorrt", loading, ("auto",))
        check_providers("tensorrt", providers, ())
        return _Loading(self, _onnx(entry), known).session()

    def deserialized(self, plan: calls.PlanBytes) -> ICudaEngine:
        """Of a plan that may be trusted. Raises: EngineError, ResourceError."""
        return calls.deserialize(self._runtime, self.log, plan)

    def open_engine(
        self,
        engine: ICudaEngine,
        profiles: tuple[Profile, ...],
        *,
        made_by: MadeBy,
    ) -> TensorRtSession:
        by_name = {profile.name: profile for profile in profiles}
        return TensorRtSession(
            self.library, self.log, engine, self.device, by_name, made_by=made_by
        )


class _Loading:
    """One artifact on its way to a session. ``notes``: what did not work on it."""

    def __init__(self, engine: TensorRt, model: TensorMap, known: KnownModel) -> None:
        self._engine = engine
        self._entry = model.path
        self._known = known
        self._golden = read_safetensors(known.golden) if known.golden is not None else {}
        options = with_options(engine.options, known.options)
        self._options = replace(options, batch_max=max(options.batch_max, known.batch_max))
        self._profiles = profiles_for(model, self._golden, self._options)
        self._structure = structure_of(model)
        self._key = self._make_key()
        self._notes: list[str] = []

    def session(self) -> TensorRtSession:
        """Raises: RefusedError, ResourceError, EngineError."""
        try:
            plans = Plans(self._known.room)
            kept = list(plans.all())
        except OSError as error:  # serving is worth more than keeping
            self._notes.append(f"no plans in {self._known.room.folder}: {error}")
            session = self._opened(self._engine.deserialized(self._build(b"").plan), "build")
        else:
            session = self._cheapest(plans, kept)
        session.notes = tuple(self._notes)
        return session

    def _cheapest(self, plans: Plans, kept: list[Kept]) -> TensorRtSession:
        can_refit = self._options.refittable
        while True:
            step = choose(
                self._key,
                self._structure,
                kept,
                can_refit=can_refit,
                has_golden=bool(self._golden),
            )
            if step.kept is None:
                return self._built(plans)
            try:
                if step.do == "load":
                    return self._opened(self._loaded(plans, step.kept), "load")
                return self._refitted(plans, step.kept)
            except (ProofError, EngineError) as error:
                self._notes.append(f"{step.do} of a kept plan did not work: {error.message}")
            kept.remove(step.kept)
            can_refit = can_refit and step.do != "refit"  # a copy of another would fail alike

    def _loaded(self, plans: Plans, kept: Kept) -> ICudaEngine:
        """Raises: ProofError; EngineError (the plan is dropped); ResourceError (it stays)."""
        data = plans.read(kept)
        try:
            return self._engine.deserialized(data)
        except EngineError:
            plans.drop(kept)
            raise

    def _refitted(self, plans: Plans, kept: Kept) -> TensorRtSession:
        """An engine of its own made of a kept plan, with the weights of this model: the one that
        serves is never touched, since a refit that fails leaves a mixture of weights.

        Raises: ProofError (the plan's bytes, or the golden sample), EngineError, ResourceError.
        """
        second = self._loaded(plans, kept)
        calls.refit(self._engine.library, self._engine.log, second, self._entry)
        session = self._opened(second, "refit")
        try:
            result = replay(session, self._golden, self._known.tolerances)
            if not result.ok:
                raise ProofError(f"the golden sample differs: {'; '.join(result.mismatches)}")
            plan = calls.serialize(second, self._engine.log)
        except EdgeError:
            session.close()
            raise
        self._keep(plans, plan, "refit")
        return session

    def _built(self, plans: Plans) -> TensorRtSession:
        built = self._build(plans.timings(self._key))
        session = self._opened(self._engine.deserialized(built.plan), "build")
        self._keep(plans, built.plan, "build")
        try:
            plans.write_timings(self._key, built.timings)
        except (ResourceError, OSError) as error:
            self._notes.append(f"what the build measured was not kept: {error}")
        return session

    def _build(self, timings: bytes) -> calls.Built:
        engine = self._engine
        return calls.build(
            engine.library,
            engine.log,
            self._entry,
            self._profiles,
            self._options,
            timings=timings,
        )

    def _opened(self, engine: ICudaEngine, made_by: MadeBy) -> TensorRtSession:
        return self._engine.open_engine(engine, self._profiles, made_by=made_by)

    def _keep(
        self, plans: Plans, plan: calls.PlanBytes, made_by: Literal["build", "refit"]
    ) -> None:
        """The session works without: where it is not kept, that is a note."""
        view = calls.view(plan)
        try:
            if not plans.write(self._key, self._structure, view, made_by=made_by):
                self._notes.append(
                    f"a plan of {view.nbytes} bytes was not kept: the quota has no room"
                )
        except (ResourceError, OSError) as error:
            self._notes.append(f"the plan was not kept: {error}")

    def _make_key(self) -> PlanKey:
        options = self._options
        to_set, to_clear = builder_flags(options)
        return PlanKey(
            artifact=str(self._known.artifact),
            library=str(self._engine.library.__version__),
            place=self._engine.device.place(),
            flags=("STRONGLY_TYPED", *to_set, *(f"no {name}" for name in to_clear)),
            level=options.level,
            workspace_bytes=options.workspace_bytes,
            profiles=self._profiles,
        )


def profiles_for(
    model: TensorMap, golden: Mapping[str, Array], options: Options
) -> tuple[Profile, ...]:
    facts = model.facts.inputs if model.facts is not None else ()
    shapes: dict[str, Shape] = {fact.name: fact.shape for fact in facts}
    samples = {name: golden[INPUT + name].shape for name in shapes if INPUT + name in golden}
    return profiles_of(shapes, samples, options)


def _onnx(entry: Path) -> TensorMap:
    if not entry.is_file():
        raise NotFoundError(f"no model file {entry}")
    model = open_model(entry)  # refuses data that lie outside of the model's folder
    if model.format != "onnx":
        raise FormatError(f"{entry} is not an ONNX model")
    return model
