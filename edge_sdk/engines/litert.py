"""LiteRT (the former TensorFlow Lite) on the CPU.

Where its package does not exist (32-bit ARM) its predecessor tflite-runtime serves instead.
An interpreter owns its buffers and serves one run at a time, so inputs and outputs are
copied in and out under a lock. Delegates and custom operators are never loaded.
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Mapping, Sequence
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
from edge_sdk.formats import open_model
from edge_sdk.manifest.model import TensorSpec

_LIBRARY_ERRORS = (RuntimeError, ValueError)
_LOADINGS: tuple[Loading, ...] = ("auto", "prepacked")


class LiteRt:
    """The engine ``litert``."""

    libraries = ("ai_edge_litert", "tflite_runtime")

    def __init__(self) -> None:
        """Raises: RefusedError where only the predecessor is there, with a NumPy it is not for."""
        library, interpreter = import_litert()
        self._version = str(library.__version__)
        self._interpreter = interpreter.Interpreter

    def facts(self) -> EngineFacts:
        """Its models name operators one by one: there is no version of all to compare with."""
        return EngineFacts(
            name="litert",
            version=self._version,
            ir_version_max=None,
            opset_max={},
            loadings=_LOADINGS,
        )

    def load(
        self,
        entry: Path,
        *,
        threads: int = 1,
        loading: Loading = "auto",
        providers: Sequence[str] = (),
    ) -> LiteRtSession:
        """Raises: NotFoundError, FormatError, RefusedError."""
        check_loading("litert", loading, _LOADINGS)
        check_providers("litert", providers, ())
        if not entry.is_file():
            raise NotFoundError(f"no model file {entry}")
        if open_model(entry).format != "tflite":
            raise FormatError(f"{entry} is not a TFLite model")
        try:
            interpreter = self._interpreter(model_path=str(entry), num_threads=threads)
        except _LIBRARY_ERRORS as error:
            raise FormatError(f"{entry} is not a whole TFLite model: {error}") from None
        try:
            interpreter.allocate_tensors()
        except _LIBRARY_ERRORS as error:
            raise RefusedError(f"LiteRT cannot run {entry}: {error}") from None
        return LiteRtSession(interpreter, entry.name)


def import_litert() -> tuple[Any, Any]:
    """The package and its module ``interpreter``. Raises: RefusedError."""
    if importlib.util.find_spec("ai_edge_litert") is not None:
        import ai_edge_litert
        from ai_edge_litert import interpreter

        return ai_edge_litert, interpreter
    if int(np.__version__.split(".")[0]) >= 2:
        raise RefusedError(
            f"tflite-runtime was built for NumPy 1, here is {np.__version__}: install numpy<2",
            engine="litert",
        )
    import tflite_runtime
    from tflite_runtime import interpreter

    return tflite_runtime, interpreter


class LiteRtSession:
    """A model in one interpreter, whose input shapes are those of the last run."""

    one_at_a_time = True  # a run waits for the one before it

    def __init__(self, interpreter: Any, name: str) -> None:
        self._interpreter = interpreter
        self._name = name
        self._lock = threading.Lock()
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = _specs(inputs, "input", name)
        self.outputs = _specs(outputs, "output", name)
        self._input_indices = [detail["index"] for detail in inputs]
        self._output_indices = [detail["index"] for detail in outputs]
        self._shapes = [tuple(map(int, detail["shape"])) for detail in inputs]

    def output_shapes(self, inputs: Mapping[str, Shape]) -> Mapping[str, Shape | None]:
        return {
            spec.name: spec.shape if spec.shape and min(spec.shape) >= 0 else None
            for spec in self.outputs
        }

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        check_arrays(self.inputs, inputs, what="input", whole=True)
        check_arrays(self.outputs, outputs, what="output", whole=False)
        return _Copied(self, inputs, outputs)

    def run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.bind(inputs, outputs).run()

    def close(self) -> None:
        with self._lock:
            self._interpreter = None

    def invoke(self, inputs: Sequence[Array]) -> list[Array]:
        """Copies in, computes, copies out. Raises: EngineError, UsageError (shapes)."""
        with self._lock:
            if self._interpreter is None:
                raise EngineError(f"{self._name} was closed")
            try:
                self._resize([array.shape for array in inputs])
                for index, array in zip(self._input_indices, inputs, strict=True):
                    # No name may hold the view: while one lives, the interpreter refuses to run.
                    np.copyto(self._interpreter.tensor(index)(), array)
                self._interpreter.invoke()
                return [self._interpreter.get_tensor(index) for index in self._output_indices]
            except _LIBRARY_ERRORS as error:
                raise EngineError(f"LiteRT failed: {error}") from None

    def _resize(self, shapes: list[Shape]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = []  # unknown until the interpreter has accepted all of them
        for index, shape in zip(self._input_indices, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape, strict=True)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


class _Copied:
    def __init__(
        self, session: LiteRtSession, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
    ) -> None:
        self._session = session
        self._inputs = [inputs[spec.name] for spec in session.inputs]
        self._outputs = dict(outputs)

    def run(self) -> Mapping[str, Array]:
        names = [spec.name for spec in self._session.outputs]
        got = dict(zip(names, self._session.invoke(self._inputs), strict=True))
        for name, buffer in self._outputs.items():
            if buffer.shape != got[name].shape:
                raise UsageError(
                    f"output {name!r} has shape {list(got[name].shape)}, its buffer "
                    f"{list(buffer.shape)}"
                )
            np.copyto(buffer, got.pop(name))
        return got


def _specs(details: Sequence[Mapping[str, Any]], what: str, model: str) -> tuple[TensorSpec, ...]:
    specs = []
    for detail in details:
        dtype = np.dtype(detail["dtype"]).name
        if dtype not in STORAGE:  # strings among them: LiteRT gives them as bytes
            raise RefusedError(
                f"{what} {detail['name']!r} of {model} is {dtype}; only tensors of numbers and "
                "bool can be served",
                tensor=detail["name"],
            )
        signature = detail["shape_signature"]
        shape = signature if len(signature) == len(detail["shape"]) else detail["shape"]
        specs.append(
            TensorSpec(name=detail["name"], dtype=dtype, shape=tuple(int(size) for size in shape))
        )
    return tuple(specs)
