"""A fleet service in memory, on a real loopback port: it keeps what it is sent and proves it.

For tests of ``edge_sdk.fleet``. It keeps the wire contract of protos/fleet_v1.proto as the
distributor does: files are proved, the same artifact again is no conflict, other content is.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
from grpc_status import rpc_status

from edge_sdk.base import (
    ConflictError,
    Digest,
    EdgeError,
    ForbiddenError,
    NotFoundError,
    ProofError,
    UnavailableError,
    file_digest,
)
from edge_sdk.base.digest import CHUNK_BYTES
from edge_sdk.manifest import decode_manifest
from edge_sdk.protos import fleet_v1_pb2 as wire
from edge_sdk.protos import fleet_v1_pb2_grpc as service
from edge_sdk.rpc import OPERATOR_KEY, SERVER_OPTIONS, to_status


@dataclass
class FleetInMemory:
    """What the service holds; tests look at it and change it."""

    files: dict[bytes, bytes] = field(default_factory=dict)
    artifacts: dict[bytes, wire.Artifact] = field(default_factory=dict)
    devices: dict[str, wire.Device] = field(default_factory=dict)
    verdicts: list[wire.VariantVerdict] = field(default_factory=list)
    plan: list[wire.PlanProgress] = field(default_factory=list)
    storage: wire.ListStorageResponse | None = None
    undo: wire.Rollout | None = None  # what an undo answers with
    rollouts: dict[str, list[wire.Rollout]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    requests: list[object] = field(default_factory=list)
    operators: list[str | None] = field(default_factory=list)
    frames: list[tuple[bytes, int, int]] = field(default_factory=list)
    breakdowns: list[EdgeError] = field(default_factory=list)
    break_after_frames: int | None = None
    forbidden: set[str] = field(default_factory=set)  # models that nobody may publish
    hold_publish: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, name: str, request: object, context: grpc.ServicerContext) -> None:
        """Notes the call, and fails it where the test put a breakdown in its way."""
        metadata = dict(context.invocation_metadata())
        with self.lock:
            self.calls.append(name)
            self.requests.append(request)
            self.operators.append(metadata.get(OPERATOR_KEY))
            broken = self.breakdowns.pop(0) if self.breakdowns else None
        if broken is not None:
            raise broken


def _answering(name: str):
    """Turns our errors into statuses, as the distributor's interceptor does."""

    def decorate(method):
        def call(self, request, context):
            try:
                self.fleet.begin(name, request, context)
                return method(self, request, context)
            except EdgeError as error:
                context.abort_with_status(rpc_status.to_status(to_status(error)))

        return call

    return decorate


def _streaming(name: str):
    def decorate(method):
        def call(self, request, context):
            try:
                self.fleet.begin(name, request, context)
                yield from method(self, request, context)
            except EdgeError as error:
                context.abort_with_status(rpc_status.to_status(to_status(error)))

        return call

    return decorate


class FleetServicer(service.FleetServiceServicer):
    """The service over one ``FleetInMemory``."""

    def __init__(self, fleet: FleetInMemory) -> None:
        self.fleet = fleet

    @_answering("MissingFiles")
    def MissingFiles(self, request, context):
        if request.model in self.fleet.forbidden:
            raise ForbiddenError(f"nobody publishes {request.model}")
        missing = [raw for raw in request.digests if raw not in self.fleet.files]
        return wire.MissingFilesResponse(digests=missing)

    @_answering("Publish")
    def Publish(self, requests, context):
        document = next(iter(requests)).manifest
        if self.fleet.hold_publish:
            gone = threading.Event()
            context.add_callback(gone.set)
            gone.wait()
        manifest = decode_manifest(document)
        received: dict[bytes, bytearray] = {}
        for count, request in enumerate(requests, start=1):
            frame = request.frame
            assert len(received.setdefault(frame.digest, bytearray())) == frame.offset
            received[frame.digest] += frame.data
            self.fleet.frames.append((frame.digest, frame.offset, len(frame.data)))
            self._keep(received)
            if self.fleet.break_after_frames == count:
                self.fleet.break_after_frames = None
                raise UnavailableError("the distributor goes down")
        for entry in manifest.files:
            if entry.digest.raw not in self.fleet.files:
                raise ProofError(f"file {entry.path} did not arrive as its digest says")
        return self._admit(document, manifest)

    def _keep(self, received):
        """What proves itself is kept, also when the rest never arrives."""
        for digest, data in received.items():
            chunks = [
                Digest.of(data[start : start + CHUNK_BYTES])
                for start in range(0, len(data), CHUNK_BYTES)
            ]
            if file_digest(chunks).raw == digest:
                self.fleet.files[digest] = bytes(data)

    def _admit(self, document, manifest):
        artifact = Digest.of(document).raw
        for known in self.fleet.artifacts.values():
            same = (known.model, known.version, known.variant) == (
                str(manifest.model),
                str(manifest.version),
                manifest.variant,
            )
            if same and known.artifact != artifact:
                raise ConflictError("this variant of this version is there with other content")
        created = artifact not in self.fleet.artifacts
        self.fleet.artifacts[artifact] = wire.Artifact(
            artifact=artifact,
            model=str(manifest.model),
            version=str(manifest.version),
            variant=manifest.variant,
            parent=str(manifest.parent or ""),
            format=manifest.format,
            size_bytes=manifest.size_bytes,
            published_ms=1_700_000_000_000,
            manifest=document,
        )
        return wire.PublishResponse(artifact=artifact, created=created)

    @_answering("ListModels")
    def ListModels(self, request, context):
        found = [one for one in self.fleet.artifacts.values() if request.model in ("", one.model)]
        return wire.ListModelsResponse(artifacts=found)

    @_answering("ListStorage")
    def ListStorage(self, request, context):
        if self.fleet.storage is None:
            raise NotFoundError(f"no version of {request.model} is published here")
        return self.fleet.storage

    @_answering("ListDevices")
    def ListDevices(self, request, context):
        return wire.ListDevicesResponse(devices=list(self.fleet.devices.values()))

    @_answering("LabelDevice")
    def LabelDevice(self, request, context):
        device = self._device(request.device)
        for key, value in request.set.items():
            device.labels[key] = value
        for key in request.remove:
            device.labels.pop(key, None)
        return device

    @_answering("ExplainDevice")
    def ExplainDevice(self, request, context):
        return wire.ExplainDeviceResponse(
            device=self._device(request.device), verdicts=self.fleet.verdicts
        )

    def _device(self, name):
        if name not in self.fleet.devices:
            raise NotFoundError(f"no device {name}")
        return self.fleet.devices[name]

    @_streaming("PlanRollout")
    def PlanRollout(self, request, context):
        yield from self.fleet.plan

    @_answering("CreateRollout")
    def CreateRollout(self, request, context):
        rollout = wire.Rollout(
            rollout=f"r-{len(self.fleet.rollouts) + 1}",
            model=request.model,
            version=request.version,
            cohort=request.cohort,
            state="building",
            together=request.together,
        )
        self.fleet.rollouts[rollout.rollout] = [rollout]
        return rollout

    @_answering("GetRollout")
    def GetRollout(self, request, context):
        return self._states(request.rollout)[-1]

    @_answering("ListRollouts")
    def ListRollouts(self, request, context):
        newest = [states[-1] for states in reversed(self.fleet.rollouts.values())]
        return wire.ListRolloutsResponse(
            rollouts=[one for one in newest if request.model in ("", one.model)]
        )

    @_streaming("WatchRollout")
    def WatchRollout(self, request, context):
        yield from self._states(request.rollout)

    @_answering("AbortRollout")
    def AbortRollout(self, request, context):
        last = wire.Rollout()
        last.CopyFrom(self._states(request.rollout)[-1])
        last.state = "aborted"
        self.fleet.rollouts[request.rollout].append(last)
        return last

    @_answering("UndoRollout")
    def UndoRollout(self, request, context):
        last = self._states(request.rollout)[-1]
        undo = self.fleet.undo or wire.Rollout(
            rollout=f"r-{len(self.fleet.rollouts) + 1}",
            model=last.model,
            version="0.0.0",
            state="running",
            undoes=last.rollout,
        )
        self.fleet.rollouts[undo.rollout] = [undo]
        return undo

    def _states(self, rollout):
        if rollout not in self.fleet.rollouts:
            raise NotFoundError(f"no rollout {rollout}")
        return self.fleet.rollouts[rollout]


@contextmanager
def serving(fleet: FleetInMemory) -> Iterator[str]:
    """The address of a server over ``fleet``, which is gone when the block ends."""
    pool = futures.ThreadPoolExecutor(max_workers=4)
    server = grpc.server(pool, options=list(SERVER_OPTIONS))
    service.add_FleetServiceServicer_to_server(FleetServicer(fleet), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace=0).wait()
        pool.shutdown()
