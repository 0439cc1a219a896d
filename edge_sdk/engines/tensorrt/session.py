"""A plan that runs: one execution context and one stream, used by one run at a time.

Inputs go through pinned memory to the GPU, outputs come back the same way, all in the order of
a stream of our own. Runs of several threads take turns: one GPU computes them one after the
other anyhow, and each further context would take the memory of all activations again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from edge_sdk.base import EdgeError, RefusedError, UsageError
from edge_sdk.engines.contract import STORAGE, Array, Binding, Shape, check_arrays
from edge_sdk.engines.errors import EngineError
from edge_sdk.engines.tensorrt.calls import LIBRARY_ERRORS, failure
from edge_sdk.engines.tensorrt.device import Device, OnGpu, Pinned
from edge_sdk.engines.tensorrt.library import ICudaEngine, IExecutionContext, Library, Log, Member
from edge_sdk.engines.tensorrt.rules import Profile, check_profile, dtype_of
from edge_sdk.manifest.model import TensorSpec

MadeBy = Literal["load", "refit", "build"]


class TensorRtSession:
    """``made_by``: load, refit or build. ``notes``: what did not work before that did."""

    one_at_a_time = True  # a run waits for the one before it

    def __init__(
        self,
        library: Library,
        log: Log,
        engine: ICudaEngine,
        device: Device,
        profiles: Mapping[str, Profile],
        *,
        made_by: MadeBy,
    ) -> None:
        """Raises: RefusedError (tensors that cannot be served), EngineError."""
        self.made_by = made_by
        self.notes: tuple[str, ...] = ()
        self._log = log
        self._library = library
        self._device = device
        self._profiles = profiles
        self.inputs = _specs(engine, library, library.TensorIOMode.INPUT)
        self.outputs = _specs(engine, library, library.TensorIOMode.OUTPUT)
        self._lock = threading.Lock()
        # For outputs whose shape depends on the data; each set at the context once, since the
        # bindings never let go of one that they were given.
        self._allocators: dict[str, _Growing] = {}
        self._attached: _Staged | None = None
        self._context = engine.create_execution_context()
        if self._context is None:
            raise failure(EngineError, "TensorRT made no execution context", log)
        self._stream = device.open_stream()

    def output_shapes(self, inputs: Mapping[str, Shape]) -> Mapping[str, Shape | None]:
        with self._lock:
            self._attached = None
            try:
                shapes = self._shapes(inputs)
            except EdgeError:
                return {spec.name: None for spec in self.outputs}
        return {name: None if -1 in shape else shape for name, shape in shapes.items()}

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Binding:
        check_arrays(self.inputs, inputs, what="input", whole=True)
        check_arrays(self.outputs, outputs, what="output", whole=False)
        for name, array in inputs.items():
            check_profile(self._profiles, name, array.shape)
        with self._lock:
            self._attached = None
            shapes = self._shapes({name: array.shape for name, array in inputs.items()})
        for name, buffer in outputs.items():
            if -1 not in shapes[name]:
                _check_buffer(name, buffer, shapes[name])
        return _Staged(self, self._device, inputs, outputs, shapes)

    def run(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Mapping[str, Array]:
        rest = self.bind(inputs, outputs).run()
        return {name: np.array(array) for name, array in rest.items()}

    def close(self) -> None:
        with self._lock:
            if self._context is None:
                return
            # It holds its engine, and that its runtime: the last of it goes here.
            self._attached = self._context = None
            self._allocators.clear()
            self._device.close_stream(self._stream)

    def compute(self, staged: _Staged) -> dict[str, Shape]:
        """One run of what was staged; shapes of the outputs that depend on the data.

        Raises: EngineError, ResourceError.
        """
        with self._lock:
            context = self._open_context()
            if self._attached is not staged:
                self._attach(context, staged)
            for allocator in self._allocators.values():
                allocator.shape = allocator.error = None
            try:
                for gpu, pinned, size_bytes in staged.ins:
                    self._device.copy_in(gpu.address, pinned.address, size_bytes, self._stream)
                started = context.execute_async_v3(self._stream)
                self._raise_kept(staged)
                _accepted(started, self._log, "did not start the run")
                for gpu, pinned, size_bytes in staged.outs:
                    self._device.copy_out(pinned.address, gpu.address, size_bytes, self._stream)
            finally:
                # Whatever failed: nothing may change while the GPU still reads or writes it.
                self._device.wait(self._stream)
            return self._fetch_growing(staged)

    def _fetch_growing(self, staged: _Staged) -> dict[str, Shape]:
        shapes = {}
        for name in staged.growing:
            allocator = self._allocators[name]
            if allocator.shape is None:
                raise EngineError(f"TensorRT gave no shape of output {name!r}: {self._log.last()}")
            shapes[name] = allocator.shape
            pinned, size_bytes = staged.room_for(name, allocator.shape)
            if size_bytes:
                self._device.copy_out(pinned.address, allocator.address, size_bytes, self._stream)
        self._device.wait(self._stream)
        return shapes

    def _raise_kept(self, staged: _Staged) -> None:
        for name in staged.growing:
            error = self._allocators[name].error
            if error is not None:
                raise error

    def _attach(self, context: IExecutionContext, staged: _Staged) -> None:
        self._attached = None
        self._shapes(staged.shapes_in)
        for name, address in staged.addresses.items():
            _accepted(context.set_tensor_address(name, address), self._log, f"refused {name!r}")
        for name in staged.growing:
            if name not in self._allocators:
                allocator = make_allocator(self._library, self._device)
                _accepted(
                    context.set_output_allocator(name, allocator), self._log, f"refused {name!r}"
                )
                self._allocators[name] = allocator
        self._attached = staged

    def _shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        """Shapes of the outputs for shapes of the inputs, -1 where they depend on the data.

        Raises: UsageError, EngineError.
        """
        context = self._open_context()
        for name, shape in inputs.items():
            if not context.set_input_shape(name, tuple(shape)):
                raise UsageError(f"input {name!r} cannot have shape {list(shape)} in this plan")
        try:
            unknown = context.infer_shapes()
        except LIBRARY_ERRORS as error:
            raise EngineError(f"TensorRT could not infer shapes: {error}") from None
        if unknown:
            raise EngineError(f"TensorRT does not know the shapes of {', '.join(unknown)}")
        return {
            spec.name: tuple(int(size) for size in context.get_tensor_shape(spec.name))
            for spec in self.outputs
        }

    def _open_context(self) -> IExecutionContext:
        if self._context is None:
            raise EngineError("the model was closed")
        return self._context


class _Staged:
    """A binding: memory of the GPU and pinned memory for each tensor of known shape."""

    def __init__(
        self,
        session: TensorRtSession,
        device: Device,
        inputs: Mapping[str, Array],
        outputs: Mapping[str, Array],
        shapes: Mapping[str, Shape],
    ) -> None:
        self._session = session
        self._device = device
        self._inputs = dict(inputs)
        self._outputs = dict(outputs)
        self._dtypes = {spec.name: STORAGE[spec.dtype] for spec in session.outputs}
        self.shapes_in = {name: array.shape for name, array in inputs.items()}
        self.growing = [name for name, shape in shapes.items() if -1 in shape]
        self.ins: list[tuple[OnGpu, Pinned, int]] = []
        self.outs: list[tuple[OnGpu, Pinned, int]] = []
        self.addresses: dict[str, int] = {}
        self._views: dict[str, Array] = {}
        self._room: dict[str, Pinned] = {}
        for name, array in inputs.items():
            self._stage(name, array.dtype, array.shape, self.ins)
        for name, shape in shapes.items():
            if -1 not in shape:
                self._stage(name, self._dtypes[name], shape, self.outs)

    def _stage(
        self, name: str, dtype: np.dtype[Any], shape: Shape, into: list[tuple[OnGpu, Pinned, int]]
    ) -> None:
        size_bytes = _bytes(dtype, shape)
        gpu, pinned = OnGpu(self._device, size_bytes), Pinned(self._device, size_bytes)
        self.addresses[name] = gpu.address
        self._views[name] = pinned.array(dtype, shape)
        into.append((gpu, pinned, size_bytes))

    def room_for(self, name: str, shape: Shape) -> tuple[Pinned, int]:
        """Pinned memory for an output of that shape: what was there if it is large enough."""
        size_bytes = _bytes(self._dtypes[name], shape)
        found = self._room.get(name)
        if found is None or found.size_bytes < size_bytes:
            found = self._room[name] = Pinned(self._device, size_bytes)
        return found, size_bytes

    def run(self) -> Mapping[str, Array]:
        for name, array in self._inputs.items():
            np.copyto(self._views[name], array)
        found = self._session.compute(self)
        rest = {}
        for name, dtype in self._dtypes.items():
            fixed = name not in found
            got = self._views[name] if fixed else self._room[name].array(dtype, found[name])
            buffer = self._outputs.get(name)
            if buffer is None:
                rest[name] = got
            else:
                _check_buffer(name, buffer, got.shape)
                np.copyto(buffer, got)
        return rest


class _Growing:
    """An output's memory on the GPU, as large as its largest answer so far.

    The library calls it in the thread that starts a run, under the session's lock. What it
    raised would only be printed, so it keeps the error and gives no address.
    """

    shape: Shape | None
    error: EdgeError | None
    address: int


def make_allocator(library: Library, device: Device) -> _Growing:
    class Allocator(library.IOutputAllocator, _Growing):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            library.IOutputAllocator.__init__(self)
            self.shape = None
            self.error = None
            self.address = 0
            self._memory: OnGpu | None = None

        def reallocate_output_async(
            self, tensor_name: str, memory: int, size: int, alignment: int, stream: int
        ) -> int:
            # No run is under way: each is waited for before the next one starts.
            try:
                if self._memory is None or self._memory.size_bytes < size:
                    self._memory = None
                    self._memory = OnGpu(device, size)
            except EdgeError as error:
                self.error = error
                return 0
            self.address = self._memory.address
            return self.address

        def notify_shape(self, tensor_name: str, shape: Any) -> None:
            self.shape = tuple(int(size) for size in shape)

    return Allocator()


def _specs(engine: ICudaEngine, library: Library, mode: Member) -> tuple[TensorSpec, ...]:
    """Raises: RefusedError."""
    specs = []
    for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
        if engine.get_tensor_mode(name) != mode:
            continue
        if engine.get_tensor_location(name) != library.TensorLocation.DEVICE:
            raise RefusedError(
                f"tensor {name!r} is a shape, which TensorRT keeps on the host and this engine "
                "does not serve; serve the model with onnxruntime",
                tensor=name,
            )
        shape = tuple(int(size) for size in engine.get_tensor_shape(name))
        dtype = dtype_of(engine.get_tensor_dtype(name).name, name)
        specs.append(TensorSpec(name=name, dtype=dtype, shape=shape))
    return tuple(specs)


def _bytes(dtype: np.dtype[Any], shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize


def _check_buffer(name: str, buffer: Array, shape: Shape) -> None:
    if buffer.shape != shape:
        raise UsageError(
            f"output {name!r} has shape {list(shape)}, its buffer {list(buffer.shape)}"
        )


def _accepted(answer: bool, log: Log, what: str) -> None:
    if not answer:
        raise failure(EngineError, f"TensorRT {what}", log)
