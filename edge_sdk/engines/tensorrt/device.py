"""Memory and streams of the GPU, behind few calls, so that tests can put host memory in place.

CUDA by NVIDIA's own ``cuda-bindings``: it finds the driver by itself, raises nothing at import
where there is none, and gives the GIL up in every call.
"""

from __future__ import annotations

import ctypes
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_sdk.base import RefusedError, ResourceError
from edge_sdk.engines.contract import Array, Shape
from edge_sdk.engines.errors import EngineError
from edge_sdk.engines.tensorrt.rules import Place

_GPU = 0  # the first one that CUDA_VISIBLE_DEVICES leaves
_OUT_OF_MEMORY = "cudaErrorMemoryAllocation"
# Which driver it is in words: CUDA itself tells only which CUDA it can run.
_DRIVER_FILES = (Path("/proc/driver/nvidia/version"), Path("/etc/nv_tegra_release"))


class Device(Protocol):
    """One GPU. Addresses and streams are numbers. All methods raise EngineError."""

    def place(self) -> Place: ...

    def take_pinned(self, size_bytes: int) -> int:
        """Host memory that the GPU can read. Raises: ResourceError."""

    def free_pinned(self, address: int) -> None: ...

    def take(self, size_bytes: int) -> int:
        """Memory of the GPU. Raises: ResourceError."""

    def free(self, address: int) -> None: ...

    def open_stream(self) -> int: ...

    def close_stream(self, stream: int) -> None: ...

    def copy_in(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """From pinned memory to the GPU, in the stream's order."""

    def copy_out(self, target: int, source: int, size_bytes: int, stream: int) -> None: ...

    def wait(self, stream: int) -> None:
        """Until all that was put into the stream is done."""


class Runtime(Protocol):
    """What is used of ``cuda.bindings.runtime``: each call gives (error, result...)."""

    cudaError_t: Any
    cudaMemcpyKind: Any
    cudaDeviceScheduleBlockingSync: int
    cudaHostAllocDefault: int
    cudaStreamNonBlocking: int

    def cudaGetDeviceCount(self) -> tuple[Any, ...]: ...
    def cudaSetDeviceFlags(self, flags: int) -> tuple[Any, ...]: ...
    def cudaGetDeviceProperties(self, device: int) -> tuple[Any, ...]: ...
    def cudaDriverGetVersion(self) -> tuple[Any, ...]: ...
    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]: ...
    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]: ...
    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]: ...
    def cudaMalloc(self, size: int) -> tuple[Any, ...]: ...
    def cudaFree(self, devPtr: int) -> tuple[Any, ...]: ...
    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]: ...
    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]: ...
    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]: ...
    def cudaMemcpyAsync(
        self, dst: int, src: int, count: int, kind: Any, stream: int
    ) -> tuple[Any, ...]: ...


class CudaDevice:
    """The GPU of this process."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        """Raises: RefusedError (no CUDA, no driver, no GPU)."""
        self._runtime = _import_runtime() if runtime is None else runtime
        try:
            (count,) = self._call(self._runtime.cudaGetDeviceCount())
        except EngineError as error:
            raise RefusedError(f"no GPU can be used: {error.message}", engine="tensorrt") from None
        if not count:
            raise RefusedError("there is no GPU here", engine="tensorrt")
        # Whoever waits sleeps: by default a thread would spin, and burn one of few cores.
        with suppress(EngineError):  # who used the GPU of this process before us has decided it
            flags = self._runtime.cudaDeviceScheduleBlockingSync
            self._call(self._runtime.cudaSetDeviceFlags(flags))

    def place(self) -> Place:
        (facts,) = self._call(self._runtime.cudaGetDeviceProperties(_GPU))
        (cuda,) = self._call(self._runtime.cudaDriverGetVersion())
        name = facts.name.decode() if isinstance(facts.name, bytes) else str(facts.name)
        return Place(
            gpu=name.rstrip("\0"),
            compute=(int(facts.major), int(facts.minor)),
            processors=int(facts.multiProcessorCount),
            memory_bytes=int(facts.totalGlobalMem),
            driver="; ".join((f"CUDA {int(cuda)}", *_driver_lines())),
        )

    def take_pinned(self, size_bytes: int) -> int:
        flags = self._runtime.cudaHostAllocDefault
        return int(self._call(self._runtime.cudaHostAlloc(size_bytes, flags))[0])

    def free_pinned(self, address: int) -> None:
        self._call(self._runtime.cudaFreeHost(address))

    def take(self, size_bytes: int) -> int:
        return int(self._call(self._runtime.cudaMalloc(size_bytes))[0])

    def free(self, address: int) -> None:
        self._call(self._runtime.cudaFree(address))

    def open_stream(self) -> int:
        # One of its own: on the default stream TensorRT synchronises more than it needs to.
        flags = self._runtime.cudaStreamNonBlocking
        return int(self._call(self._runtime.cudaStreamCreateWithFlags(flags))[0])

    def close_stream(self, stream: int) -> None:
        self._call(self._runtime.cudaStreamDestroy(stream))

    def copy_in(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._runtime.cudaMemcpyAsync(target, source, size_bytes, kind, stream))

    def copy_out(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._runtime.cudaMemcpyAsync(target, source, size_bytes, kind, stream))

    def wait(self, stream: int) -> None:
        self._call(self._runtime.cudaStreamSynchronize(stream))

    def _call(self, answer: tuple[Any, ...]) -> tuple[Any, ...]:
        error, *results = answer
        if error == self._runtime.cudaError_t.cudaSuccess:
            return tuple(results)
        _, text = self._runtime.cudaGetErrorString(error)
        words = text.decode() if isinstance(text, bytes) else str(text)
        if error.name == _OUT_OF_MEMORY:
            raise ResourceError(f"the GPU has no memory left: {words}", what="memory")
        raise EngineError(f"CUDA failed: {error.name}: {words}")


class Pinned:
    """Pinned host memory, freed when nothing looks at it any more."""

    def __init__(self, device: Device, size_bytes: int) -> None:
        self.size_bytes = max(size_bytes, 1)
        self.address = device.take_pinned(self.size_bytes)
        # Not at exit: the driver is gone by then, and the memory with it.
        weakref.finalize(self, device.free_pinned, self.address).atexit = False

    def array(self, dtype: np.dtype[Any], shape: Shape) -> Array:
        """A view that keeps the memory."""
        count = int(np.prod(shape, dtype=np.int64))
        memory: Any = (ctypes.c_char * self.size_bytes).from_address(self.address)
        memory.owner = self
        return np.frombuffer(memory, dtype, count).reshape(shape)


class OnGpu:
    """Memory of the GPU, freed with this object."""

    def __init__(self, device: Device, size_bytes: int) -> None:
        self.size_bytes = max(size_bytes, 1)  # TensorRT wants an address for nothing, too
        self.address = device.take(self.size_bytes)
        weakref.finalize(self, device.free, self.address).atexit = False


def _import_runtime() -> Runtime:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise RefusedError(
            f"cuda-bindings is not installed here: {error}", engine="tensorrt"
        ) from None
    module: Runtime = runtime
    return module


def _driver_lines() -> tuple[str, ...]:
    return tuple(
        " ".join(path.read_text().splitlines()[0].split())
        for path in _DRIVER_FILES
        if path.is_file() and path.stat().st_mode & 0o444 and path.read_text().strip()
    )
