"""The part of TensorRT that is used, as types: what is not named here is not called.

The bindings bring no types. These classes say which names and signatures the engine needs; a
test holds each of them against what the bindings of 10.3, 10.16 and 11.4 really have.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections import deque
from typing import Any, Protocol

from edge_sdk.base import RefusedError

MODULES = ("tensorrt", "tensorrt_bindings")
_MESSAGES_KEPT = 8


class Member(Protocol):
    """A member of an enumeration."""

    @property
    def name(self) -> str: ...

    def __int__(self) -> int: ...


class BuilderFlag(Protocol):
    REFIT: Member
    TF32: Member


class NetworkDefinitionCreationFlag(Protocol):
    STRONGLY_TYPED: Member


class MemoryPoolType(Protocol):
    WORKSPACE: Member


class TensorIOMode(Protocol):
    INPUT: Member
    OUTPUT: Member


class TensorLocation(Protocol):
    DEVICE: Member


class Severity(Protocol):
    ERROR: Member


class IHostMemory(Protocol):
    """A buffer as well: ``memoryview`` takes it."""

    @property
    def nbytes(self) -> int: ...


class ITensor(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def is_shape_tensor(self) -> bool: ...


class INetworkDefinition(Protocol):
    @property
    def num_inputs(self) -> int: ...

    def get_input(self, index: int) -> ITensor: ...


class IOptimizationProfile(Protocol):
    def set_shape(
        self, input: str, min: tuple[int, ...], opt: tuple[int, ...], max: tuple[int, ...]
    ) -> None:
        """Raises: RuntimeError or ValueError (bounds that contradict each other)."""


class ITimingCache(Protocol):
    def serialize(self) -> IHostMemory | None: ...


class IBuilderConfig(Protocol):
    builder_optimization_level: int

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        """Of nothing, or of what one was serialised to."""

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """The cache must outlive the build."""

    def get_timing_cache(self) -> ITimingCache | None: ...

    def set_flag(self, flag: Member) -> None: ...

    def clear_flag(self, flag: Member) -> None: ...

    def set_memory_pool_limit(self, pool: Member, pool_size: int) -> None: ...

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """Its index, -1 where it is not valid."""


class Builder(Protocol):
    def __init__(self, logger: Any) -> None: ...

    def create_network(self, flags: int) -> INetworkDefinition: ...

    def create_builder_config(self) -> IBuilderConfig: ...

    def create_optimization_profile(self) -> IOptimizationProfile: ...

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None: ...


class ParserError(Protocol):
    def desc(self) -> str: ...


class OnnxParser(Protocol):
    def __init__(self, network: INetworkDefinition, logger: Any) -> None: ...

    @property
    def num_errors(self) -> int: ...

    def parse_from_file(self, model: str) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class IExecutionContext(Protocol):
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...

    def infer_shapes(self) -> list[str]:
        """Names of what is not specified yet. Raises: RuntimeError."""

    def get_tensor_shape(self, name: str) -> Any:
        """A sequence of sizes, -1 for what depends on the data."""

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class ICudaEngine(Protocol):
    @property
    def num_io_tensors(self) -> int: ...

    @property
    def refittable(self) -> bool: ...

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_mode(self, name: str) -> Member: ...

    def get_tensor_dtype(self, name: str) -> Member: ...

    def get_tensor_shape(self, name: str) -> Any: ...

    def get_tensor_location(self, name: str) -> Member: ...

    def create_execution_context(self) -> IExecutionContext | None: ...

    def serialize(self) -> IHostMemory | None: ...


class Runtime(Protocol):
    def __init__(self, logger: Any) -> None: ...

    def deserialize_cuda_engine(self, serialized_engine: Any) -> ICudaEngine | None: ...


class Refitter(Protocol):
    def __init__(self, engine: ICudaEngine, logger: Any) -> None: ...

    def get_missing_weights(self) -> list[str]: ...

    def refit_cuda_engine(self) -> bool:
        """False: part of the weights may have been changed."""


class OnnxParserRefitter(Protocol):
    def __init__(self, refitter: Refitter, logger: Any) -> None: ...

    @property
    def num_errors(self) -> int: ...

    def refit_from_file(self, model: str) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class Library(Protocol):
    """The module itself."""

    __version__: str
    BuilderFlag: BuilderFlag
    NetworkDefinitionCreationFlag: NetworkDefinitionCreationFlag
    MemoryPoolType: MemoryPoolType
    TensorIOMode: TensorIOMode
    TensorLocation: TensorLocation
    Builder: type[Builder]
    OnnxParser: type[OnnxParser]
    Runtime: type[Runtime]
    Refitter: type[Refitter]
    OnnxParserRefitter: type[OnnxParserRefitter]
    # To be derived from: their methods are found by name.
    ILogger: Any
    IOutputAllocator: Any


def module_name() -> str | None:
    """The installed module: NVIDIA's whole package, or the bindings alone on system libraries."""
    return next((name for name in MODULES if importlib.util.find_spec(name)), None)


def import_tensorrt() -> Library:
    """Raises: RefusedError (not installed, or its libraries cannot be loaded)."""
    name = module_name()
    if name is None:
        raise RefusedError("TensorRT is not installed here", engine="tensorrt")
    try:
        library: Library = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise RefusedError(
            f"{name} is installed, but not the libraries that it needs: {error}", engine="tensorrt"
        ) from None
    return library


class Log(Protocol):
    """Made by ``make_log``; keeps the last errors, so that they can be told."""

    def last(self) -> str: ...


def make_log(library: Library) -> Log:
    """A logger that prints nothing. It must outlive whatever it was given to.

    What it does not catch itself would be printed by the bindings and lost.
    """
    severity: Severity = library.ILogger.Severity
    worst = int(severity.ERROR)

    class Kept(library.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            library.ILogger.__init__(self)  # the bindings need the base's own constructor
            self.errors: deque[str] = deque(maxlen=_MESSAGES_KEPT)

        def log(self, severity: Member, msg: str) -> None:
            if int(severity) <= worst:
                self.errors.append(" ".join(msg.split())[:500])

        def last(self) -> str:
            """What was said since it was asked last."""
            said = "; ".join(self.errors)
            self.errors.clear()
            return said or "the library did not say why"

    log: Log = Kept()
    return log
