"""The steps that a plan is made in, each as few calls of the library as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_sdk.base import EdgeError, RefusedError, ResourceError
from edge_sdk.engines.errors import EngineError
from edge_sdk.engines.tensorrt.library import (
    Builder,
    IBuilderConfig,
    ICudaEngine,
    IHostMemory,
    INetworkDefinition,
    ITimingCache,
    Library,
    Log,
    OnnxParser,
    OnnxParserRefitter,
    Runtime,
)
from edge_sdk.engines.tensorrt.rules import Options, Profile, builder_flags

_ERRORS_TOLD = 3
# There is no code for it: these words are in the messages of the library.
_NO_MEMORY = ("out of memory", "outofmemory", "could not be allocated")
# What the bindings raise by themselves: pybind11 turns C++ exceptions into these.
LIBRARY_ERRORS = (RuntimeError, ValueError, TypeError)

PlanBytes = bytes | IHostMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A plan, and what was measured on the way: ``timings`` make the next build shorter."""

    plan: IHostMemory
    timings: bytes


def build(
    library: Library,
    log: Log,
    entry: Path,
    profiles: Sequence[Profile],
    options: Options,
    *,
    timings: bytes = b"",
) -> Built:
    """A plan for this device, of a strongly typed network: seconds to many minutes.

    Raises: RefusedError with what the parser or the builder says; ResourceError.
    """
    try:
        builder = library.Builder(log)
        network = builder.create_network(
            1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        )
        parser = library.OnnxParser(network, log)  # owns the network's weights until it is built
        _parse(parser, network, entry)
        config = _config(library, builder, profiles, options)
        cache = _set_timings(config, timings)  # has to outlive the build
        plan = builder.build_serialized_network(network, config)
        filled = config.get_timing_cache() if cache is not None else None
        measured = None if filled is None else filled.serialize()
    except LIBRARY_ERRORS as error:
        what = f"TensorRT cannot build a plan of {entry} ({error})"
        raise failure(RefusedError, what, log) from None
    if plan is None:
        raise failure(RefusedError, f"TensorRT cannot build a plan of {entry}", log)
    return Built(plan=plan, timings=b"" if measured is None else bytes(view(measured)))


def _set_timings(config: IBuilderConfig, timings: bytes) -> ITimingCache | None:
    """In force for this build; an empty one where the library does not take what was kept."""
    for blob in dict.fromkeys((timings, b"")):
        cache = config.create_timing_cache(blob)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache
    return None


def _parse(parser: OnnxParser, network: INetworkDefinition, entry: Path) -> None:
    if not parser.parse_from_file(str(entry)):
        raise RefusedError(f"TensorRT cannot read {entry}: {_parser_errors(parser)}")
    _check_inputs(network, entry)


def _config(
    library: Library, builder: Builder, profiles: Sequence[Profile], options: Options
) -> IBuilderConfig:
    config = builder.create_builder_config()
    to_set, to_clear = builder_flags(options)
    for name in to_set:
        config.set_flag(getattr(library.BuilderFlag, name))
    for name in to_clear:
        config.clear_flag(getattr(library.BuilderFlag, name))
    config.builder_optimization_level = options.level
    if options.workspace_bytes:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if profiles:
        profile = builder.create_optimization_profile()
        for one in profiles:
            profile.set_shape(one.name, one.least, one.best, one.most)
        if config.add_optimization_profile(profile) < 0:
            raise RefusedError(f"TensorRT refuses the bounds of the shapes: {profiles}")
    return config


def deserialize(runtime: Runtime, log: Log, plan: PlanBytes) -> ICudaEngine:
    """Only of bytes whose hash was compared, or that were just built: a plan is code.

    Raises: EngineError.
    """
    try:
        engine = runtime.deserialize_cuda_engine(plan)
    except LIBRARY_ERRORS as error:
        raise failure(EngineError, f"TensorRT cannot load the plan ({error})", log) from None
    if engine is None:
        raise failure(EngineError, "TensorRT cannot load the plan", log)
    return engine


def serialize(engine: ICudaEngine, log: Log) -> IHostMemory:
    """The plan with the weights that the engine has now. Raises: EngineError."""
    plan = engine.serialize()
    if plan is None:
        raise failure(EngineError, "TensorRT cannot serialise the engine", log)
    return plan


def refit(library: Library, log: Log, engine: ICudaEngine, entry: Path) -> None:
    """Puts the weights of ``entry`` into an engine on which nothing runs.

    Raises: EngineError; the engine is good for nothing then, since part of its weights may
    have been changed.
    """
    if not engine.refittable:
        raise EngineError("the plan was not built to be refitted")
    try:
        refitter = library.Refitter(engine, log)
        parser = library.OnnxParserRefitter(refitter, log)  # owns the weights until they are in
        if not parser.refit_from_file(str(entry)):
            raise failure(
                EngineError, f"not every weight was accepted ({_parser_errors(parser)})", log
            )
        missing = refitter.get_missing_weights()
        if missing:
            raise EngineError(f"weights are missing: {', '.join(missing[:_ERRORS_TOLD])}")
        done = refitter.refit_cuda_engine()
    except LIBRARY_ERRORS as error:
        raise failure(EngineError, f"the refit failed ({error})", log) from None
    if not done:
        raise failure(EngineError, "the refit failed", log)


def failure(kind: type[EdgeError], what: str, log: Log) -> EdgeError:
    """The error for what the library said last; a ResourceError where memory was missing, since
    the same may work later."""
    said = log.last()
    if any(words in said.lower() for words in _NO_MEMORY):
        return ResourceError(f"{what}: {said}", what="memory")
    return kind(f"{what}: {said}")


def view(plan: PlanBytes) -> memoryview:
    """The plan's bytes, without a copy."""
    return memoryview(plan)  # type: ignore[arg-type]


def _check_inputs(network: INetworkDefinition, entry: Path) -> None:
    inputs = (network.get_input(index) for index in range(network.num_inputs))
    shaping = [tensor.name for tensor in inputs if tensor.is_shape_tensor]
    if shaping:
        raise RefusedError(
            f"{entry} takes the values of input {shaping[0]!r} as a shape, which this engine "
            "does not serve; serve the model with onnxruntime",
            tensor=shaping[0],
        )


def _parser_errors(parser: OnnxParser | OnnxParserRefitter) -> str:
    count = min(parser.num_errors, _ERRORS_TOLD)
    told = "; ".join(" ".join(parser.get_error(index).desc().split()) for index in range(count))
    return told or "the parser did not say why"
