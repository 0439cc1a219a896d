"""CUDA as the engine calls it: through NVIDIA's bindings where they are installed, here mostly
through a stand-in of them. No GPU is used."""

from __future__ import annotations

import enum
import gc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_sdk.base import RefusedError, ResourceError
from edge_sdk.engines.errors import EngineError
from edge_sdk.engines.tensorrt import device
from edge_sdk.engines.tensorrt.device import CudaDevice, OnGpu, Pinned
from tests.support.fake_gpu import FakeGpu


class CudaError(enum.IntEnum):
    cudaSuccess = 0  # noqa: N815 - CUDA's names
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815


class StandIn:
    """Answers as ``cuda.bindings.runtime`` does: a tuple that begins with the error."""

    cudaError_t = CudaError  # noqa: N815
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815

    cudaDeviceScheduleBlockingSync = 4  # noqa: N815
    cudaHostAllocDefault = 0  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails: dict[str, CudaError] = {}
        self.gives: dict[str, Any] = {
            "cudaGetDeviceCount": 1,
            "cudaDriverGetVersion": 12060,
            "cudaMalloc": 0x1000,
            "cudaHostAlloc": 0x2000,
            "cudaStreamCreateWithFlags": 7,
            "cudaGetErrorString": b"as CUDA says it",
            "cudaGetDeviceProperties": SimpleNamespace(
                name=b"Orin\0\0", major=8, minor=7, multiProcessorCount=16, totalGlobalMem=8 << 30
            ),
        }

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            error = self.fails.get(name, CudaError.cudaSuccess)
            return (error, self.gives[name]) if name in self.gives else (error,)

        return call


@pytest.fixture
def cuda() -> StandIn:
    return StandIn()


def test_a_device_tells_what_a_plan_depends_on(
    cuda: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Name, compute capability, processors, memory, and the driver in its own words."""
    (tmp_path / "version").write_text("NVRM version:  Kernel 540.4.0\nGCC\n")
    monkeypatch.setattr(device, "_DRIVER_FILES", (tmp_path / "version", tmp_path / "missing"))
    place = CudaDevice(cuda).place()
    assert (place.gpu, place.compute, place.processors) == ("Orin", (8, 7), 16)
    assert place.memory_bytes == 8 << 30
    assert place.driver == "CUDA 12060; NVRM version: Kernel 540.4.0"


def test_who_waits_does_not_spin(cuda: StandIn) -> None:
    """The flag is set before anything else makes the device's context."""
    CudaDevice(cuda)
    assert cuda.calls == [("cudaGetDeviceCount",), ("cudaSetDeviceFlags", 4)]


def test_calls_are_cudas(cuda: StandIn) -> None:
    """Memory, streams of our own, and copies that go into the stream."""
    gpu = CudaDevice(cuda)
    del cuda.calls[:]
    stream = gpu.open_stream()
    assert (gpu.take(100), gpu.take_pinned(200)) == (0x1000, 0x2000)
    gpu.copy_in(0x1000, 0x2000, 100, stream)
    gpu.copy_out(0x2000, 0x1000, 100, stream)
    gpu.wait(stream)
    gpu.free(0x1000)
    gpu.free_pinned(0x2000)
    gpu.close_stream(stream)
    assert cuda.calls == [
        ("cudaStreamCreateWithFlags", 1),
        ("cudaMalloc", 100),
        ("cudaHostAlloc", 200, 0),
        ("cudaMemcpyAsync", 0x1000, 0x2000, 100, 1, 7),
        ("cudaMemcpyAsync", 0x2000, 0x1000, 100, 2, 7),
        ("cudaStreamSynchronize", 7),
        ("cudaFree", 0x1000),
        ("cudaFreeHost", 0x2000),
        ("cudaStreamDestroy", 7),
    ]


def test_errors_have_their_families(cuda: StandIn) -> None:
    """No memory is the caller's to answer; anything else is the engine's failure."""
    gpu = CudaDevice(cuda)
    cuda.fails["cudaMalloc"] = CudaError.cudaErrorMemoryAllocation
    with pytest.raises(ResourceError, match="as CUDA says it"):
        gpu.take(100)
    cuda.fails["cudaStreamSynchronize"] = CudaError.cudaErrorIllegalAddress
    with pytest.raises(EngineError, match="cudaErrorIllegalAddress"):
        gpu.wait(7)


def test_without_a_gpu_the_engine_is_refused(cuda: StandIn) -> None:
    """No driver, or a driver that finds nothing."""
    cuda.gives["cudaGetDeviceCount"] = 0
    with pytest.raises(RefusedError, match="no GPU"):
        CudaDevice(cuda)
    cuda.fails["cudaGetDeviceCount"] = CudaError.cudaErrorInsufficientDriver
    with pytest.raises(RefusedError, match="cudaErrorInsufficientDriver"):
        CudaDevice(cuda)


def test_memory_goes_with_what_holds_it() -> None:
    """Pinned memory stays while an array looks at it."""
    gpu = FakeGpu()
    on_gpu, pinned = OnGpu(gpu, 10), Pinned(gpu, 12)
    array = pinned.array(np.dtype(np.float32), (3,))
    array[:] = 1.5
    del on_gpu, pinned
    gc.collect()
    assert not gpu.memory
    assert (array == 1.5).all()
    del array
    gc.collect()
    assert not gpu.pinned


def test_nothing_has_an_address_too() -> None:
    """An empty tensor: TensorRT takes no null address."""
    gpu = FakeGpu()
    pinned = Pinned(gpu, 0)
    assert OnGpu(gpu, 0).address
    assert pinned.array(np.dtype(np.int64), (0, 3)).shape == (0, 3)
