"""ONNX Runtime, with prebound IOBinding: on the CPU, or on what is configured before it.

Telemetry and spinning are off, custom operator libraries are never loaded, and the memory
of tensors is the caller's wherever a shape is known before the run.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.base import FormatError, NotFoundError, RefusedError, UsageError
from edge_sdk.engines.contract import (
    STORAGE,
    Array,
    Binding,
    EngineFacts,
    Loading,
    Shape,
    check_arrays,
    check_loading,
    check_providers,
)
from edge_sdk.engines.errors import EngineError
from edge_sdk.engines.onnx_limits import (
    DOMAINS,
    IR_NEWEST,
    IR_OLD,
    OPSET_NEWEST,
    OPSET_OLD,
    smallest_model,
)
from edge_sdk.engines.onnx_mapped import folder_of, skeleton_of
from edge_sdk.formats import TensorMap, open_model
from edge_sdk.manifest.model import TensorSpec

_TELEMETRY = "ORT_DISABLE_TELEMETRY"
Errors = tuple[type[Exception], ...]

_LOG_FATAL = 4  # the rest arrives as exceptions and would only be repeated on standard error

_CPU = "CPUExecutionProvider"
_SHORT = {
    "cpu": _CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# It sends tensors to a service somewhere.
_REMOTE = frozenset({"AzureExecutionProvider"})
# The library takes a key that it does not know without a word: what they do is tested.
_DISABLE_PREPACKING = "session.disable_prepacking"
_EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"
_LOADINGS: tuple[Loading, ...] = ("auto", "mapped", "prepacked")

# The engine's names of the types that it shares with us, and their numbers in onnx.proto.
_DTYPES = {
    "tensor(float)": ("float32", 1),
    "tensor(uint8)": ("uint8", 2),
    "tensor(int8)": ("int8", 3),
    "tensor(uint16)": ("uint16", 4),
    "tensor(int16)": ("int16", 5),
    "tensor(int32)": ("int32", 6),
    "tensor(int64)": ("int64", 7),
    "tensor(string)": ("string", 8),
    "tensor(bool)": ("bool", 9),
    "tensor(float16)": ("float16", 10),
    "tensor(double)": ("float64", 11),
    "tensor(uint32)": ("uint32", 12),
    "tensor(uint64)": ("uint64", 13),
    "tensor(bfloat16)": ("bfloat16", 16),
}
_NUMBERS = dict(_DTYPES.values())

# How an output that does not fit its buffer is told; there is no code for it. 1.31 and 1.23.
_WRONG_BUFFER = ("provided for output", "shape verification failed")


def import_onnxruntime() -> Any:
    """The library, imported so that it reports to nobody.

    Its Linux wheels upload by default since 1.29, and begin at import: the variable must be
    there before. Raises: RefusedError where something imported it without.
    """
    if "onnxruntime" in sys.modules and os.environ.get(_TELEMETRY) != "1":
        raise RefusedError(
            f"onnxruntime was imported before {_TELEMETRY}=1 was set, so it may report home; "
            "set the variable before the first import"
        )
    os.environ[_TELEMETRY] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def library_errors() -> Errors:
    """All that the library raises: its own classes have no base in common but Exception."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (value for value in vars(state).values() if isinstance(value, type))
    return (RuntimeError, ValueError, *(cls for cls in own if issubclass(cls, Exception)))


class OnnxRuntime:
    """The engine ``onnxruntime``."""

    libraries = ("onnxruntime",)

    def __init__(self) -> None:
        self._library = import_onnxruntime()
        self._errors = library_errors()
        self._facts: EngineFacts | None = None

    def facts(self) -> EngineFacts:
        """Found by loading the smallest models there are, since the library does not say."""
        if self._facts is None:
            self._facts = self._find_facts()
        return self._facts

    def _find_facts(self) -> EngineFacts:
        return EngineFacts(
            name="onnxruntime",
            loadings=_LOADINGS,
            providers=self._available(),
            version=str(self._library.__version__),
            ir_version_max=self._newest(IR_NEWEST, lambda ir: smallest_model(ir, "", OPSET_OLD)),
            opset_max={
                domain: self._newest(OPSET_NEWEST, partial(smallest_model, IR_OLD, domain))
                for domain in DOMAINS
            },
        )

    def _newest(self, guess: int, model: Callable[[int], bytes]) -> int:
        return max((n for n in range(1, guess + 1) if self._loads(model(n))), default=0)

    def _loads(self, model: bytes) -> bool:
        try:
            self._library.InferenceSession(model, self._options(threads=1), providers=[_CPU])
        except self._errors:
            return False
        return True

    def _available(self) -> tuple[str, ...]:
        every = self._library.get_available_providers()
        return tuple(name for name in every if name not in _REMOTE)

    def load(
        self,
        entry: Path,
        *,
        threads: int = 1,
        loading: Loading = "auto",
        providers: Sequence[str] = (),
    ) -> OnnxSession:
        """``providers``: the library's names, or cpu, cuda, tensorrt; the CPU is always last.

        ``auto`` loads prepacked: only the caller knows what else needs the memory.
        Raises: NotFoundError, FormatError, RefusedError.
        """
        check_loading("onnxruntime", loading, _LOADINGS)
        wanted = in_order(providers)
        check_providers("onnxruntime", wanted, self._available())
        if not entry.is_file():
            raise NotFoundError(f"no model file {entry}")
        # ONNX Runtime 1.23 follows external data out of the folder: this refuses it first.
        model = open_model(entry)
        if model.format != "onnx":
            raise FormatError(f"{entry} is not an ONNX model")
        options = self._options(threads=threads)
        if loading == "mapped":
            options.add_session_config_entry(_DISABLE_PREPACKING, "1")
        session = self._from_skeleton(model, options) if wanted == [_CPU] else None
        try:
            session = session or self._library.InferenceSession(
                str(entry), options, providers=wanted
            )
        except self._errors as error:
            raise _load_error(entry, error) from None
        _check_started(session, wanted)
        return OnnxSession(session, entry.name, self._errors)

    def _from_skeleton(self, model: TensorMap, options: Any) -> Any:
        """None: the model is for the library to read by itself, which also tells what is wrong.

        Weights that it maps it need not copy before it packs them: half of the time.
        """
        skeleton = skeleton_of(model)
        if skeleton is None:
            return None
        options.add_session_config_entry(_EXTERNAL_FOLDER, folder_of(model))
        try:
            return self._library.InferenceSession(skeleton, options, providers=[_CPU])
        except self._errors:
            return None

    def _options(self, *, threads: int) -> Any:
        options = self._library.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _LOG_FATAL
        # On by default, it costs 3.6 ms of CPU per request at 200 requests a second.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options


def in_order(providers: Sequence[str]) -> list[str]:
    """The library's names, each once, and the CPU behind all others."""
    names = [_SHORT.get(name, name) for name in providers]
    return [*dict.fromkeys(name for name in names if name != _CPU), _CPU]


def _check_started(session: Any, wanted: Sequence[str]) -> None:
    """The library goes on with the CPU alone where a provider's own libraries are missing.

    Raises: RefusedError.
    """
    started = session.get_providers()
    missing = [name for name in wanted if name not in started]
    if missing:
        raise RefusedError(
            f"ONNX Runtime could not start {', '.join(missing)}, only {', '.join(started)}: "
            "a library or driver that it needs is missing",
            engine="onnxruntime",
            provider=missing[0],
        )


class OnnxSession:
    """A model loaded by ONNX Runtime."""

    def __init__(self, session: Any, name: str, errors: Errors) -> None:
        self.library_session = session
        self.errors = errors
        self._name = name
        self._input_dims = {node.name: tuple(node.shape) for node in session.get_inputs()}
        self._output_dims = {node.name: tuple(node.shape) for node in session.get_outputs()}
        self.inputs = tuple(_spec(node, "input", name) for node in session.get_inputs())
        self.outputs = tuple(_spec(node, "output", name) for node in session.get_outputs())
        dtypes = {spec.dtype for spec in (*self.inputs, *self.outputs)}
        if {"string", "bfloat16"} <= dtypes:
            raise RefusedError(
                f"{name} has string and bfloat16 tensors; ONNX Runtime can bind no strings and "
                "give no bfloat16 without binding"
            )
        self._has_strings = "string" in dtypes

    def output_shapes(self, inputs: Mapping[str, Shape]) -> Mapping[str, Shape | None]:
        sizes: dict[str, int] = {}
        for name, dims in self._input_dims.items():
            for dim, size in zip(dims, inputs[name], strict=False):
                if isinstance(dim, str):
                    sizes.setdefault(dim, size)
        return {name: _known_shape(dims, sizes) for name, dims in self._output_dims.items()}

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        check_arrays(self.inputs, inputs, what="input", whole=True)
        check_arrays(self.outputs, outputs, what="output", whole=False)
        if self.library_session is None:
            raise EngineError(f"{self._name} was closed")
        if self._has_strings:
            return _Unbound(self, inputs, outputs)
        return _Prebound(self, inputs, outputs)

    def run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        rest = self.bind(inputs, outputs).run()
        return {name: np.array(array) for name, array in rest.items()}

    def close(self) -> None:
        self.library_session = None


class _Prebound:
    """Raw addresses bound once: 3.7 µs a run where ``run()`` of the library takes 6.1."""

    def __init__(
        self, session: OnnxSession, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        self._session = session.library_session
        self._errors = session.errors
        self._specs = session.outputs
        self._arrays = (dict(inputs), dict(outputs))  # raw addresses keep nothing alive
        self._unbound = len(outputs) < len(session.outputs)
        self._binding = self._session.io_binding()
        self._run_bound = _bound_run(self._session, self._binding)
        for spec in session.inputs:
            self._binding.bind_input(*_place(spec, inputs[spec.name]))
        self._bind_outputs()

    def _bind_outputs(self) -> None:
        for spec in self._specs:
            array = self._arrays[1].get(spec.name)
            if array is None:
                self._binding.bind_output(spec.name, "cpu")
            else:
                self._binding.bind_output(*_place(spec, array))

    def run(self) -> Mapping[str, Array]:
        if self._unbound:
            # What the run before left there counts as a buffer of fixed shape otherwise.
            self._binding.clear_binding_outputs()
            self._bind_outputs()
        try:
            self._run_bound()
        except self._errors as error:
            raise _run_error(error) from None
        if not self._unbound:
            return {}
        values = self._binding.get_outputs()
        return {
            spec.name: _view(value, spec)
            for spec, value in zip(self._specs, values, strict=True)
            if spec.name not in self._arrays[1]
        }


def _bound_run(session: Any, binding: Any) -> Callable[[], object]:
    """A run as the library's own wrapper makes it, looked up once: a tenth of a small run."""
    try:
        return partial(session._sess.run_with_iobinding, binding._iobinding, None)
    except AttributeError:  # a version with other insides
        return partial(session.run_with_iobinding, binding)


class _Unbound:
    """For models with strings, which the library cannot bind: plain runs, copied."""

    def __init__(
        self, session: OnnxSession, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        self._session = session.library_session
        self._errors = session.errors
        self._names = [spec.name for spec in session.outputs]
        self._inputs = dict(inputs)
        self._outputs = dict(outputs)

    def run(self) -> Mapping[str, Array]:
        try:
            values = self._session.run(self._names, self._inputs)
        except self._errors as error:
            raise _run_error(error) from None
        got = dict(zip(self._names, values, strict=True))
        for name, buffer in self._outputs.items():
            if buffer.shape != got[name].shape:
                raise UsageError(
                    f"output {name!r} has shape {list(got[name].shape)}, its buffer "
                    f"{list(buffer.shape)}"
                )
            np.copyto(buffer, got.pop(name))
        return got


def _spec(node: Any, what: str, model: str) -> TensorSpec:
    if node.type not in _DTYPES:
        raise RefusedError(
            f"{what} {node.name!r} of {model} is {node.type}; only tensors of numbers, bool and "
            "string can be served",
            tensor=node.name,
        )
    shape = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return TensorSpec(name=node.name, dtype=_DTYPES[node.type][0], shape=shape)


def _known_shape(dims: tuple[object, ...], sizes: Mapping[str, int]) -> Shape | None:
    shape = tuple(sizes.get(dim) if isinstance(dim, str) else dim for dim in dims)
    # An empty shape may be a scalar or an unknown rank: the library gives both as [].
    return shape if shape and all(isinstance(size, int) for size in shape) else None  # type: ignore[return-value]


def _place(spec: TensorSpec, array: Array) -> tuple[object, ...]:
    return spec.name, "cpu", 0, _NUMBERS[spec.dtype], array.shape, array.ctypes.data


def _view(value: Any, spec: TensorSpec) -> Array:
    """The engine's own output as an array, which keeps it alive."""
    dtype = STORAGE[spec.dtype]
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.empty(shape, dtype)
    memory: Any = (ctypes.c_char * (count * dtype.itemsize)).from_address(value.data_ptr())
    memory.owner = value
    return np.frombuffer(memory, dtype, count).reshape(shape)


def _load_error(entry: Path, error: Exception) -> Exception:
    problem = _first_line(error)
    if type(error).__name__ in ("InvalidProtobuf", "InvalidArgument"):
        return FormatError(f"{entry} is not a whole ONNX model: {problem}")
    return RefusedError(f"ONNX Runtime cannot run {entry}: {problem}")


def _run_error(error: Exception) -> Exception:
    problem = _first_line(error)
    if any(sign in problem for sign in _WRONG_BUFFER):
        return UsageError(f"an output does not fit its buffer: {problem}")
    return EngineError(f"ONNX Runtime failed: {problem}")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
