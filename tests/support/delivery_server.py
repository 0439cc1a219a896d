"""DeliveryService in memory, on a real synchronous gRPC server: a distributor for agent tests.

Runs on Python 3.10, where the distributor does not. It keeps no rule of its own: it sends
what a test publishes and assigns, makes real deltas, counts every byte, and can be told to
damage bytes, to cut a stream or to hold it back.
"""

from __future__ import annotations

import io
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_status import rpc_status

from edge_sdk.base import BusyError, ConflictError, Digest, ModelName, Version
from edge_sdk.delta import encode
from edge_sdk.manifest import AssignedModel, Assignment, Manifest, encode_assignment
from edge_sdk.protos import delivery_v1_pb2 as wire
from edge_sdk.protos import delivery_v1_pb2_grpc as stubs
from edge_sdk.protos import metadata_v1_pb2 as metadata_wire
from edge_sdk.protos import metadata_v1_pb2_grpc as metadata_stubs
from edge_sdk.rpc import DEVICE_KEY, FRAME_BYTES, SERVER_OPTIONS, to_status
from tests.support.artifacts import ArtifactBytes
from tests.support.trust import SignedFleet

Key = tuple[Digest | None, Digest, tuple[str, ...]]  # source, target, methods
# The same artifacts give the same bytes, whoever asks: many tests go from one version to another.
_ENCODED: dict[Key, bytes] = {}

Damage = Callable[[Digest, int, bytes], bytes]


@dataclass
class DeliveryServer(stubs.DeliveryServiceServicer):
    """``damage(delta, offset, frame)`` may change a frame; ``cut_after_bytes`` ends each
    stream there, once; ``gate`` holds streams back after ``gate_after_bytes`` until it is set.
    """

    folder: Path
    device: str = "kiosk-7"
    port: int = 0
    damage: Damage | None = None
    cut_after_bytes: int | None = None
    gate: threading.Event | None = None
    gate_after_bytes: int = 0
    acknowledges: bool = True
    frame_bytes: int = FRAME_BYTES
    plan_error: grpc.StatusCode | None = None
    busy: int = 0  # of the next plans and downloads, so many are told to come back
    published: dict[Digest, ArtifactBytes] = field(default_factory=dict)
    deltas: dict[Digest, bytes] = field(default_factory=dict)
    sources_of: dict[Digest, Digest | None] = field(default_factory=dict)
    sent: Counter[Digest] = field(default_factory=Counter)
    fetches: list[tuple[Digest, int, int]] = field(default_factory=list)
    plans: list[tuple[Digest, tuple[Digest, ...]]] = field(default_factory=list)
    check_ins: list[wire.CheckInRequest] = field(default_factory=list)
    events: list[wire.Event] = field(default_factory=list)
    hubs: dict[Digest, Digest] = field(default_factory=dict)  # target: go there by this one
    held_back: threading.Event = field(default_factory=threading.Event)
    assignment: bytes = b""  # as it is sent
    # Signs what is published and assigned, and is served; None: nobody does.
    signed: SignedFleet | None = field(default_factory=SignedFleet)
    signed_floor: str | None = None  # of what is published from now on
    asked: list[str] = field(default_factory=list)  # metadata files, by name
    metadata_gone: bool = False  # asking for them gets no answer
    metadata_drips_s: float = 0.0  # between a few bytes of them
    withheld: set[Digest] = field(default_factory=set)  # artifacts that no plan leads to
    endless: bytes | None = None  # downloads are frames of this, for ever
    highest: dict[ModelName, Version] = field(default_factory=dict)
    counter: int = 0

    def __post_init__(self) -> None:
        self._watches: list[queue.SimpleQueue[int | None]] = []
        self._server: grpc.Server | None = None
        self._made: dict[Key, Digest] = {}
        self.endless_frames = 0

    # -- what a test does ----------------------------------------------------------------

    def start(self) -> DeliveryServer:
        self._server = grpc.server(ThreadPoolExecutor(16), options=SERVER_OPTIONS)
        stubs.add_DeliveryServiceServicer_to_server(self, self._server)
        metadata_stubs.add_MetadataServiceServicer_to_server(ServedMetadata(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()
        return self

    def stop(self) -> None:
        """At once, as a killed process; ``start`` comes back on the same port."""
        if self.gate is not None:
            self.gate.set()
        for watch in self._watches:
            watch.put(None)
        self._watches.clear()
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def publish(self, artifact: ArtifactBytes) -> Digest:
        self.published[artifact.artifact] = artifact
        root = self.folder / str(artifact.artifact)
        for path, data in artifact.files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        if self.signed is not None:
            self._sign(self.signed, artifact)
        return artifact.artifact

    def _sign(self, fleet: SignedFleet, artifact: ArtifactBytes) -> None:
        """Also other content for a version: what a publisher may sign is no matter here."""
        try:
            fleet.publish(artifact.document, floor=self.signed_floor)
        except ConflictError:
            fleet.unpublish(artifact.document)
            fleet.publish(artifact.document, floor=self.signed_floor)

    @property
    def root_file(self) -> Path:
        """The factory root of its devices, for ``edge-agent run --root``."""
        assert self.signed is not None
        path = self.folder / "root.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.signed.root)
        return path

    def assign(
        self,
        *artifacts: ArtifactBytes,
        attempt: int = 1,
        rollout: str = "",
        floor: str = "",
        together: bool = False,
    ) -> bytes:
        """The device's whole desired state from now on; wakes whoever watches. ``together``:
        the models are one group."""
        counter = self.counter + 1
        for artifact in artifacts:
            self.publish(artifact)
        models = tuple(
            AssignedModel(
                model=artifact.manifest.model,
                version=artifact.manifest.version,
                variant=artifact.manifest.variant,
                artifact=artifact.artifact,
                floor=Version.parse(floor) if floor else None,
                rollout=rollout or f"rollout-{counter}",
                attempt=attempt,
                downgrade_from=self._highest(artifact.manifest),
            )
            for artifact in sorted(artifacts, key=lambda one: str(one.manifest.model))
        )
        said = Assignment(
            device=self.device,
            counter=counter,
            models=models,
            expires_s=None,
            groups=(tuple(one.model for one in models),) if together else (),
        )
        sealed = encode_assignment if self.signed is None else self.signed.assign
        self.assignment = sealed(said)
        self.counter = counter  # last: whoever sees it asks at once, and must get the document
        for watch in tuple(self._watches):
            watch.put(counter)
        return self.assignment

    def _highest(self, manifest: Manifest) -> Version | None:
        """What a version below the highest so far goes down from, as a distributor says it."""
        model, version = manifest.model, manifest.version
        highest = self.highest.setdefault(model, version)
        self.highest[model] = max(highest, version)
        return highest if version < highest else None

    def states(self, artifact: ArtifactBytes) -> list[str]:
        """The states reported for an artifact, in their order."""
        digest = artifact.artifact.raw
        return [event.state for event in self.events if event.artifact == digest]

    def last_event(self, artifact: ArtifactBytes) -> wire.Event | None:
        digest = artifact.artifact.raw
        return next((one for one in reversed(self.events) if one.artifact == digest), None)

    @property
    def sent_bytes(self) -> int:
        return sum(self.sent.values())

    def delta(self, source: Digest | None, target: Digest, methods: tuple[str, ...] = ()) -> Digest:
        """Made once for the methods that the device knows."""
        key = (source, target, methods)
        if key not in self._made:
            if key not in _ENCODED:
                _ENCODED[key] = self._encode(*key)
            digest = Digest.of(_ENCODED[key])
            self.deltas[digest] = _ENCODED[key]
            self.sources_of[digest] = source
            self._made[key] = digest
        return self._made[key]

    def _encode(self, source: Digest | None, target: Digest, methods: tuple[str, ...]) -> bytes:
        out = io.BytesIO()
        encode(
            None if source is None else self.folder / str(source),
            self.folder / str(target),
            out,
            **({"methods": methods} if methods else {}),
        )
        return out.getvalue()

    # -- the service ---------------------------------------------------------------------

    def CheckIn(
        self, request: wire.CheckInRequest, context: grpc.ServicerContext
    ) -> wire.CheckInResponse:
        identity = dict(context.invocation_metadata()).get(DEVICE_KEY)
        if identity != self.device:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"who is {identity}?")
        self.check_ins.append(request)
        newer = request.assignment_counter != self.counter
        return wire.CheckInResponse(
            assignment=self.assignment if newer else b"", next_check_in_s=3600.0
        )

    def Watch(
        self, request: wire.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.WatchEvent]:
        waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._watches.append(waiting)
        context.add_callback(lambda: waiting.put(None))
        told, counter = request.assignment_counter, self.counter
        while counter is not None:
            if counter > told:  # an assignment while this began is known from both sides
                told = counter
                yield wire.WatchEvent(assignment_counter=counter)
            counter = waiting.get()

    def Plan(self, request: wire.PlanRequest, context: grpc.ServicerContext) -> wire.PlanResponse:
        target = Digest(request.target_artifact)
        sources = tuple(Digest(one) for one in request.source_artifacts)
        self.plans.append((target, sources))
        self._refuse_if_busy(context)
        if self.plan_error is not None:
            context.abort(self.plan_error, "no plan today")
        if target not in self.published or target in self.withheld:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no artifact {target}")
        methods = tuple(request.capabilities.delta_methods)
        known = [one for one in sources if one in self.published]
        source = known[-1] if known else None
        hub = self.hubs.get(target)
        ways = [(source, target)] if hub is None else [(source, hub), (hub, target)]
        return wire.PlanResponse(steps=[self._step(*way, methods) for way in ways])

    def _step(
        self, source: Digest | None, target: Digest, methods: tuple[str, ...]
    ) -> wire.PlanStep:
        delta = self.delta(source, target, methods)
        return wire.PlanStep(
            source_artifact=b"" if source is None else source.raw,
            target_artifact=target.raw,
            delta=delta.raw,
            delta_bytes=len(self.deltas[delta]),
            decoder_memory_bytes=0,
            target_manifest=self.published[target].document,
        )

    def Fetch(
        self, request: wire.FetchRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.FetchFrame]:
        self._refuse_if_busy(context)
        delta = Digest(request.digest)
        data = self.deltas[delta]
        end = request.offset + request.length if request.length else len(data)
        self.fetches.append((delta, request.offset, end - request.offset))
        while self.endless is not None and context.is_active():
            self.sent[delta] += len(self.endless)
            self.endless_frames += 1
            yield wire.FetchFrame(offset=request.offset, data=self.endless)
        cut, self.cut_after_bytes = self.cut_after_bytes, None
        given = 0
        for offset in range(request.offset, end, self.frame_bytes):
            frame = data[offset : min(offset + self.frame_bytes, end)]
            if cut is not None and given >= cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "cut here")
            if self.gate is not None and given >= self.gate_after_bytes:
                self.held_back.set()
                self.gate.wait(60)
            if self.damage is not None:
                frame = self.damage(delta, offset, frame)
            if not context.is_active():
                return
            self.sent[delta] += len(frame)
            given += len(frame)
            yield wire.FetchFrame(offset=offset, data=frame)

    def _refuse_if_busy(self, context: grpc.ServicerContext) -> None:
        if self.busy:
            self.busy -= 1
            error = BusyError("not now", retry_after_s=0.001)
            context.abort_with_status(rpc_status.to_status(to_status(error)))

    def Report(
        self, request: wire.ReportRequest, context: grpc.ServicerContext
    ) -> wire.ReportResponse:
        if not self.acknowledges:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        last = self.events[-1].number if self.events else 0
        self.events += [event for event in request.events if event.number > last]
        return wire.ReportResponse(acknowledged=max(last, request.events[-1].number))


class ServedMetadata(metadata_stubs.MetadataServiceServicer):
    """The signed metadata of a delivery server, if it has any."""

    def __init__(self, server: DeliveryServer) -> None:
        self._server = server

    def Get(
        self, request: metadata_wire.GetRequest, context: grpc.ServicerContext
    ) -> Iterator[metadata_wire.MetadataFrame]:
        server = self._server
        server.asked.append(request.name)
        if server.metadata_gone:
            context.abort(grpc.StatusCode.UNAVAILABLE, f"{request.name}: no answer")
        signed = server.signed
        found = None if signed is None else signed.files.get(request.name)
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, request.name)
        assert found is not None
        step = len(found) // 50 if server.metadata_drips_s else FRAME_BYTES
        for start in range(0, len(found), step):
            time.sleep(server.metadata_drips_s)
            yield metadata_wire.MetadataFrame(data=found[start : start + step])
