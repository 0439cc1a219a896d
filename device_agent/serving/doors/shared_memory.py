"""The calls that register shared memory, as messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from device_agent.serving.doors.regions import Region, Regions
from edge_sdk.base import NotFoundError, UsageError
from edge_sdk.protos import inference_v2_pb2 as pb

Calls = Mapping[str, tuple[type[Message], Callable[[Any, Any], Message]]]


def system_calls(regions: Regions) -> Calls:
    """What to answer to the calls about POSIX shared memory, by their names."""

    def status(
        request: pb.SystemSharedMemoryStatusRequest, _context: Any
    ) -> pb.SystemSharedMemoryStatusResponse:
        answer = pb.SystemSharedMemoryStatusResponse()
        for one in regions.status(request.name):
            region = answer.regions[one.name]
            region.name, region.key = one.name, one.key
            region.offset, region.byte_size = one.offset, one.size_bytes
        return answer

    def register(
        request: pb.SystemSharedMemoryRegisterRequest, _context: Any
    ) -> pb.SystemSharedMemoryRegisterResponse:
        region = Region(
            name=request.name,
            key=request.key,
            offset=request.offset,
            size_bytes=request.byte_size,
        )
        regions.register(region)
        return pb.SystemSharedMemoryRegisterResponse()

    def unregister(
        request: pb.SystemSharedMemoryUnregisterRequest, _context: Any
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        if request.name:
            regions.unregister(request.name)
        else:
            regions.unregister_all()
        return pb.SystemSharedMemoryUnregisterResponse()

    return {
        "SystemSharedMemoryStatus": (pb.SystemSharedMemoryStatusRequest, status),
        "SystemSharedMemoryRegister": (pb.SystemSharedMemoryRegisterRequest, register),
        "SystemSharedMemoryUnregister": (pb.SystemSharedMemoryUnregisterRequest, unregister),
    }


def cuda_calls() -> Calls:
    """As the standard's servers answer without a GPU: there is none, and none can be made."""

    def status(
        request: pb.CudaSharedMemoryStatusRequest, _context: Any
    ) -> pb.CudaSharedMemoryStatusResponse:
        if request.name:
            raise NotFoundError(f"Unable to find cuda shared memory region: {request.name!r}")
        return pb.CudaSharedMemoryStatusResponse()

    def register(
        _request: pb.CudaSharedMemoryRegisterRequest, _context: Any
    ) -> pb.CudaSharedMemoryRegisterResponse:
        raise UsageError(
            "failed to register shared memory region: CUDA shared memory is not offered here"
        )

    def unregister(
        _request: pb.CudaSharedMemoryUnregisterRequest, _context: Any
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        return pb.CudaSharedMemoryUnregisterResponse()

    return {
        "CudaSharedMemoryStatus": (pb.CudaSharedMemoryStatusRequest, status),
        "CudaSharedMemoryRegister": (pb.CudaSharedMemoryRegisterRequest, register),
        "CudaSharedMemoryUnregister": (pb.CudaSharedMemoryUnregisterRequest, unregister),
    }
