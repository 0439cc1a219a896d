"""A stand-in for TensorRT that computes on the host, by the reference evaluator of ONNX.

Its enumerations are those that a release was recorded to have, its classes have no method
that the recorded ones lack (a test holds them against the record), and it keeps to what the
docstrings say: None or False where the real library fails, nothing is computed before the
stream is waited for, a refit that fails leaves a mixture of weights.
"""

from __future__ import annotations

import enum
import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator

from tests.support.fake_gpu import FakeGpu
from tests.support.tensorrt_record import RECORD

VERSIONS = ("10.3.0", "10.16.1.11", "11.4.0.106")
_MAGIC = b"FAKE PLAN "
_ONNX_TYPES = {
    TensorProto.FLOAT: "FLOAT",
    TensorProto.FLOAT16: "HALF",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}


@dataclass
class Seen:
    """What was asked of the library, and what it is told to do wrong."""

    builds: list[dict[str, Any]] = field(default_factory=list)
    loaded: list[bytes] = field(default_factory=list)
    measured: list[str] = field(default_factory=list)  # in the last build: not in its timings
    refits: int = 0
    says: str = "no tactic"  # where it fails
    build_fails: bool = False
    load_fails: bool = False
    load_fails_once: bool = False
    refit_fails: bool = False  # after half of the weights
    folded: frozenset[str] = frozenset()  # weights that a refit accepts and does not use
    missing: tuple[str, ...] = ()
    run_fails: bool = False


class IHostMemory(bytes):
    """Has the buffer protocol, as the real one."""

    @property
    def nbytes(self) -> int:
        return len(self)


class ILogger:
    def __init__(self) -> None:
        self.is_constructed = True


class IOutputAllocator:
    def __init__(self) -> None:
        self.is_constructed = True


class ITensor:
    def __init__(self, value: onnx.ValueInfoProto, *, is_shape_tensor: bool) -> None:
        self.name = value.name
        self.is_shape_tensor = is_shape_tensor


class INetworkDefinition:
    def __init__(self, flags: int) -> None:
        self._flags = flags
        self._parser: Callable[[], Any] = lambda: None
        self._model: onnx.ModelProto | None = None

    @property
    def num_inputs(self) -> int:
        assert self._model is not None
        return len(self._model.graph.input)

    def get_input(self, index: int) -> ITensor:
        assert self._model is not None
        value = self._model.graph.input[index]
        shaping = {node.input[1] for node in self._model.graph.node if node.op_type == "Reshape"}
        return ITensor(value, is_shape_tensor=value.name in shaping)


class IOptimizationProfile:
    def __init__(self) -> None:
        self._bounds: dict[str, list[list[int]]] = {}

    def set_shape(
        self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]
    ) -> None:
        rows = zip(min, opt, max, strict=True)
        if not all(0 <= low <= best <= high for low, best, high in rows):
            raise ValueError("Shape provided is inconsistent with other shapes.")
        self._bounds[input] = [list(min), list(opt), list(max)]


class ITimingCache:
    def __init__(self, blob: bytes) -> None:
        self._names = set(blob.decode().split())

    def serialize(self) -> IHostMemory:
        return IHostMemory(" ".join(sorted(self._names)).encode())


class IBuilderConfig:
    def __init__(self) -> None:
        self._cache: Callable[[], ITimingCache | None] = lambda: None
        self.builder_optimization_level = 3
        self._flags = {"TF32"}
        self._pools: dict[str, int] = {}
        self._profiles: list[IOptimizationProfile] = []

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache | None:
        blob = bytes(serialized_timing_cache)
        return None if blob.startswith(b"broken") else ITimingCache(blob)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch, "timings of another GPU would choose the wrong kernels"
        self._cache = weakref.ref(cache)
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._cache()

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self._pools[pool.name] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1


class ParserError:
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        wanted = self._engine.get_tensor_shape(name)
        low, _, high = self._engine._bounds.get(name, (wanted, wanted, wanted))
        fits = len(shape) == len(wanted) and all(
            least <= size <= most for least, size, most in zip(low, shape, high, strict=True)
        )
        if not fits:
            self._engine._say(f"{name}: {list(shape)} is outside of the profile")
            return False
        self._shapes[name] = tuple(shape)
        return True

    def infer_shapes(self) -> list[str]:
        return [
            value.name
            for value in self._engine._model.graph.input
            if value.name not in self._shapes and -1 in _shape(value)
        ]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        model = onnx.ModelProto()
        model.CopyFrom(self._engine._model)
        for value in model.graph.input:
            for dim, size in zip(
                value.type.tensor_type.shape.dim, self._shapes[value.name], strict=True
            ):
                dim.dim_value = size
        for value in model.graph.output:
            for dim in value.type.tensor_type.shape.dim:
                dim.ClearField("dim_param")
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        values = (*inferred.graph.input, *inferred.graph.output)
        return next(_shape(value) for value in values if value.name == name)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory in self._engine._gpu.memory, "only memory of the GPU can be bound"
        self._addresses[name] = memory
        return True

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        assert output_allocator.is_constructed
        assert name not in self._allocators, "the bindings would keep both for ever"
        self._allocators[name] = output_allocator
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle, "the default stream costs synchronisation"
        engine = self._engine
        if engine._seen.run_fails or set(self._addresses) < set(self._shapes):
            engine._say("the run was refused")
            return False
        engine._has_run = True
        growing = [name for name in engine._outputs if -1 in self.get_tensor_shape(name)]
        if growing:
            engine._gpu.wait(stream_handle)
            return self._compute(growing, stream_handle)
        addresses = set(self._addresses.values())
        engine._gpu.later(stream_handle, addresses, lambda: self._compute([], stream_handle))
        return True

    def _compute(self, growing: list[str], stream: int) -> bool:
        engine = self._engine
        inputs = {}
        for value in engine._model.graph.input:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            shape = self._shapes[value.name]
            size_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            data = engine._gpu.read(self._addresses[value.name], size_bytes)
            inputs[value.name] = np.frombuffer(data, dtype).reshape(shape)
        results = ReferenceEvaluator(engine._model).run(None, inputs)
        for name, result in zip(engine._outputs, results, strict=True):
            array = np.ascontiguousarray(result)
            address = self._addresses.get(name, 0)
            if name in growing:
                allocator = self._allocators[name]
                address = allocator.reallocate_output_async(name, 0, array.nbytes, 256, stream)
                if not address:
                    engine._say(f"{name}: no memory was given")
                    return False
                allocator.notify_shape(name, array.shape)
            engine._gpu.write(address, array.tobytes())
        return True


class ICudaEngine:
    def __init__(self, library: Any, gpu: FakeGpu, seen: Seen, logger: Any, plan: bytes) -> None:
        head, _, body = plan.removeprefix(_MAGIC).partition(b"\n")
        facts = json.loads(head)
        self._library, self._gpu, self._seen, self._logger = library, gpu, seen, logger
        self._head = plan[: -len(body)]
        self._model = onnx.load_from_string(body)
        self._bounds = facts["bounds"]
        self.refittable = "REFIT" in facts["flags"]
        self._outputs = [value.name for value in self._model.graph.output]
        self._has_run = False

    @property
    def num_io_tensors(self) -> int:
        return len(self._values())

    def get_tensor_name(self, index: int) -> str:
        return str(self._values()[index].name)

    def get_tensor_mode(self, name: str) -> Any:
        mode = self._library.TensorIOMode
        return mode.OUTPUT if name in self._outputs else mode.INPUT

    def get_tensor_dtype(self, name: str) -> Any:
        number = self._value(name).type.tensor_type.elem_type
        return self._library.DataType[_ONNX_TYPES[number]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return _shape(self._value(name))

    def get_tensor_location(self, name: str) -> Any:
        made_by = {node.output[0]: node.op_type for node in self._model.graph.node}
        location = self._library.TensorLocation
        return location.HOST if made_by.get(name) == "Shape" else location.DEVICE

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._head + self._model.SerializeToString(deterministic=True))

    def _values(self) -> list[onnx.ValueInfoProto]:
        return [*self._model.graph.input, *self._model.graph.output]

    def _value(self, name: str) -> onnx.ValueInfoProto:
        return next(value for value in self._values() if value.name == name)

    def _say(self, text: str) -> None:
        self._logger.log(self._library.ILogger.Severity.ERROR, text)


def fake_tensorrt(gpu: FakeGpu, version: str = "10.3.0") -> Any:
    """The module of that release, on that GPU; ``seen`` is its Seen."""
    library = SimpleNamespace(__version__=version, seen=Seen())
    for name, members in json.loads(RECORD.read_text())["tensorrt"][version]["enums"].items():
        if "." not in name:
            setattr(library, name, enum.IntEnum(name, members))
    severity = enum.IntEnum(
        "Severity", json.loads(RECORD.read_text())["tensorrt"][version]["enums"]["ILogger.Severity"]
    )
    library.ILogger = type("ILogger", (ILogger,), {"Severity": severity})
    library.IOutputAllocator = IOutputAllocator
    for make in (_builder, _parser, _runtime, _refitter):
        make(library, gpu)
    return library


def _say(library: Any, logger: Any, text: str) -> None:
    logger.log(library.ILogger.Severity.ERROR, text)


def _builder(library: Any, gpu: FakeGpu) -> None:
    seen: Seen = library.seen

    class Builder:
        def __init__(self, logger: Any) -> None:
            assert logger.is_constructed, "the base's constructor was not called"
            self._logger = logger

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            return INetworkDefinition(flags)

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(
            self, network: INetworkDefinition, config: IBuilderConfig
        ) -> IHostMemory | None:
            model = network._model
            assert model is not None
            assert network._parser() is not None, "the parser owns the weights, and is gone"
            bounds: dict[str, Any] = {}
            for profile in config._profiles:
                bounds |= profile._bounds
            loose = [v.name for v in model.graph.input if -1 in _shape(v) and v.name not in bounds]
            if loose or seen.build_fails:
                _say(library, self._logger, f"no profile for {loose}" if loose else seen.says)
                return None
            typed = bool(network._flags & 1 << library.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            cache = config._cache()
            assert cache is not None, "the timing cache has to outlive the build"
            wanted = {node.op_type for node in model.graph.node}
            seen.measured = sorted(wanted - cache._names)
            cache._names |= wanted
            facts = {
                "version": library.__version__,
                "place": asdict(gpu.here),
                "flags": sorted(config._flags),
                "typed": typed or library.__version__.startswith("11"),
                "level": config.builder_optimization_level,
                "pools": config._pools,
                "bounds": bounds,
            }
            seen.builds.append(facts)
            head = json.dumps(facts).encode()
            return IHostMemory(_MAGIC + head + b"\n" + model.SerializeToString(deterministic=True))

    library.Builder = Builder


def _parser(library: Any, gpu: FakeGpu) -> None:
    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: Any) -> None:
            self._network = network
            network._parser = weakref.ref(self)
            self._errors: list[str] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return ParserError(self._errors[index])

        def parse_from_file(self, model: str) -> bool:
            try:
                parsed = onnx.load(model)
                onnx.checker.check_model(parsed)
            except (onnx.checker.ValidationError, ValueError) as error:
                self._errors.append(str(error))
                return False
            values = (*parsed.graph.input, *parsed.graph.output)
            types = {value.type.tensor_type.elem_type for value in values}
            if not types <= set(_ONNX_TYPES):
                self._errors.append("UNSUPPORTED_NODE: a type that there is not")
                return False
            self._network._model = parsed
            return True

    library.OnnxParser = OnnxParser


def _runtime(library: Any, gpu: FakeGpu) -> None:
    class Runtime:
        def __init__(self, logger: Any) -> None:
            assert logger.is_constructed
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            plan = bytes(serialized_engine)
            seen: Seen = library.seen
            seen.loaded.append(plan)
            if seen.load_fails or seen.load_fails_once:
                seen.load_fails_once = False
                _say(library, self._logger, seen.says)
                return None
            try:
                facts = json.loads(plan.removeprefix(_MAGIC).partition(b"\n")[0])
                engine = ICudaEngine(library, gpu, library.seen, self._logger, plan)
            except Exception as error:  # noqa: BLE001 - any damage gives None
                _say(library, self._logger, f"the magic tag does not match: {error}")
                return None
            if facts["version"] != library.__version__:
                _say(library, self._logger, "the engine plan is not compatible with this version")
                return None
            return engine

    library.Runtime = Runtime


def _refitter(library: Any, gpu: FakeGpu) -> None:
    seen: Seen = library.seen

    class Refitter:
        def __init__(self, engine: ICudaEngine, logger: Any) -> None:
            assert not engine._has_run, "an engine that has served was refitted"
            self._engine = engine
            self._logger = logger
            self._owner: Callable[[], Any] = lambda: None

        def get_missing_weights(self) -> list[str]:
            return list(seen.missing)

        def refit_cuda_engine(self) -> bool:
            seen.refits += 1
            weights = self._engine._model.graph.initializer
            owner = self._owner()
            assert owner is not None, "the parser owns the weights, and is gone"
            for number, weight in enumerate(weights):
                if seen.refit_fails and number >= len(weights) // 2:
                    _say(library, self._logger, "the weights could not be copied")
                    return False
                if weight.name in owner._staged and weight.name not in seen.folded:
                    weight.CopyFrom(owner._staged[weight.name])
            return True

    class OnnxParserRefitter:
        def __init__(self, refitter: Refitter, logger: Any) -> None:
            self._refitter = refitter
            self._staged: dict[str, onnx.TensorProto] = {}
            self._errors: list[str] = []
            refitter._owner = weakref.ref(self)

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> ParserError:
            return ParserError(self._errors[index])

        def refit_from_file(self, model: str) -> bool:
            new = {weight.name: weight for weight in onnx.load(model).graph.initializer}
            for weight in self._refitter._engine._model.graph.initializer:
                found = new.get(weight.name)
                if found is None or tuple(found.dims) != tuple(weight.dims):
                    self._errors.append(f"{weight.name} is not there, or of another size")
                    return False
                self._staged[weight.name] = found
            return True

    library.Refitter = Refitter
    library.OnnxParserRefitter = OnnxParserRefitter


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims)
