"""The engine ``tensorrt``: from an ONNX artifact to a session, by the cheapest trusted step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
)
from edge_sdk.engines.tensorrt.session import TensorRtSession
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
        profiles = self.profiles(_onnx(entry), {}, batch_max=1)
        plan = calls.build(self.library, self.log, entry, profiles, self.options)
        return self.open(plan, profiles, made_by="build")

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
        model = _onnx(entry)
        golden = read_safetensors(known.golden) if known.golden is not None else {}
        return _Loading(self, model, known, golden).session()

    def open(
        self,
        plan: calls.PlanBytes,
        profiles: tuple[Profile, ...],
        *,
        made_by: Literal["load", "build"],
    ) -> TensorRtSession:
        """A session of a plan that may be trusted. Raises: EngineError, RefusedError."""
        engine = calls.deserialize(self._runtime, self.log, plan)
        return self.open_engine(engine, profiles, made_by=made_by)

    def open_engine(
        self,
        engine: ICudaEngine,
        profiles: tuple[Profile, ...],
        *,
        made_by: Literal["load", "refit", "build"],
    ) -> TensorRtSession:
        by_name = {profile.name: profile for profile in profiles}
        return TensorRtSession(
            self.library, self.log, engine, self.device, by_name, made_by=made_by
        )

    def refitted(self, plan: bytes, entry: Path) -> ICudaEngine:
        """An engine of its own made of a kept plan, with the weights of ``entry``: the one that
        serves is never touched, since a refit that fails leaves a mixture of weights.

        Raises: EngineError.
        """
        engine = calls.deserialize(self._runtime, self.log, plan)
        calls.refit(self.library, self.log, engine, entry)
        return engine

    def profiles(
        self, model: TensorMap, golden: Mapping[str, Array], *, batch_max: int
    ) -> tuple[Profile, ...]:
        facts = model.facts.inputs if model.facts is not None else ()
        shapes: dict[str, Shape] = {fact.name: fact.shape for fact in facts}
        samples = {name: golden[INPUT + name].shape for name in shapes if INPUT + name in golden}
        options = replace(self.options, batch_max=max(self.options.batch_max, batch_max))
        return profiles_of(shapes, samples, options)


@dataclass(slots=True)
class _Loading:
    """One artifact on its way to a session."""

    engine: TensorRt
    model: TensorMap
    known: KnownModel
    golden: Mapping[str, Array]

    def session(self) -> TensorRtSession:
        profiles = self.engine.profiles(self.model, self.golden, batch_max=self.known.batch_max)
        key = self._key(profiles)
        structure = structure_of(self.model)
        plans = Plans(self.known.room)
        kept = list(plans.all())
        can_refit = self.engine.options.refittable
        notes = []
        while True:
            step = choose(key, structure, kept, can_refit=can_refit, has_golden=bool(self.golden))
            if step.kept is None:
                session, note = self._built(plans, key, structure)
                break
            try:
                if step.do == "load":
                    session, note = self._loaded(plans, step.kept, profiles), ""
                else:
                    session, note = self._refitted(plans, step.kept, key, structure)
                break
            except EdgeError as error:
                notes.append(f"{step.do} of a kept plan did not work: {error.message}")
            kept.remove(step.kept)
            can_refit = can_refit and step.do != "refit"  # a copy of another would fail alike
        session.notes = tuple(one for one in (*notes, note) if one)
        return session

    def _loaded(self, plans: Plans, kept: Kept, profiles: tuple[Profile, ...]) -> TensorRtSession:
        """Raises: ProofError, EngineError."""
        data = plans.read(kept)
        try:
            return self.engine.open(data, profiles, made_by="load")
        except EdgeError:
            plans.drop(kept)
            raise

    def _refitted(
        self, plans: Plans, kept: Kept, key: PlanKey, structure: str
    ) -> tuple[TensorRtSession, str]:
        """Raises: ProofError (the plan's bytes, or the golden sample), EngineError."""
        second = self.engine.refitted(plans.read(kept), self.model.path)
        session = self.engine.open_engine(second, key.profiles, made_by="refit")
        try:
            result = replay(session, self.golden, self.known.tolerances)
            if not result.ok:
                raise ProofError(f"the golden sample differs: {'; '.join(result.mismatches)}")
            plan = calls.serialize(second, self.engine.log)
        except EdgeError:
            session.close()
            raise
        return session, _keep(plans, key, structure, plan, "refit")

    def _built(self, plans: Plans, key: PlanKey, structure: str) -> tuple[TensorRtSession, str]:
        engine = self.engine
        plan = calls.build(
            engine.library, engine.log, self.model.path, key.profiles, engine.options
        )
        session = engine.open(plan, key.profiles, made_by="build")
        return session, _keep(plans, key, structure, plan, "build")

    def _key(self, profiles: tuple[Profile, ...]) -> PlanKey:
        options = self.engine.options
        to_set, to_clear = builder_flags(options)
        return PlanKey(
            artifact=str(self.known.artifact),
            library=str(self.engine.library.__version__),
            place=self.engine.device.place(),
            flags=("STRONGLY_TYPED", *to_set, *(f"no {name}" for name in to_clear)),
            level=options.level,
            workspace_bytes=options.workspace_bytes,
            profiles=profiles,
        )


def _keep(
    plans: Plans,
    key: PlanKey,
    structure: str,
    plan: calls.PlanBytes,
    made_by: Literal["build", "refit"],
) -> str:
    """Why it was not kept, empty where it was: the session works without."""
    try:
        if plans.write(key, structure, calls.view(plan), made_by=made_by):
            return ""
    except ResourceError as error:
        return f"the plan was not kept: {error.message}"
    return f"the plan of {calls.view(plan).nbytes} bytes was not kept: the quota has no room"


def _onnx(entry: Path) -> TensorMap:
    if not entry.is_file():
        raise NotFoundError(f"no model file {entry}")
    model = open_model(entry)  # refuses data that lie outside of the model's folder
    if model.format != "onnx":
        raise FormatError(f"{entry} is not an ONNX model")
    return model
