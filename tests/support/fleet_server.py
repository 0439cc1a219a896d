"""A real distributor on loopback in this process, and scripted operators and devices for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import grpc

from distributor.builds import Builder
from distributor.config import DistributorConfig
from distributor.server import Serving, running
from distributor.storage import Database, initialise
from edge_sdk.base import Digest
from edge_sdk.manifest import Assignment, decode_assignment
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet
from edge_sdk.protos.delivery_v1_pb2_grpc import DeliveryServiceStub
from edge_sdk.protos.fleet_v1_pb2_grpc import FleetServiceStub
from edge_sdk.rpc import FRAME_BYTES, Credentials, open_channel
from edge_sdk.trust import peek_assignment
from tests.support.artifacts import ArtifactBytes
from tests.support.catalog import database_setting, pretend_signed, url_of

_START_S = 30.0

T = TypeVar("T")


def wait_until(holds: Callable[[], bool], *, deadline_s: float = 30.0) -> None:
    """Polls until ``holds()``; fails after ``deadline_s``."""
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def publish_parts(
    artifact: ArtifactBytes, *, without: Sequence[Digest] = (), frame_bytes: int = FRAME_BYTES
) -> Iterator[fleet.PublishRequest]:
    """The messages of a publish."""
    yield fleet.PublishRequest(manifest=artifact.document)
    sent = set(without)
    for entry in artifact.manifest.files:
        data = artifact.files[entry.path]
        if entry.digest in sent:
            continue
        sent.add(entry.digest)
        for at in range(0, len(data), frame_bytes):
            part = data[at : at + frame_bytes]
            frame = fleet.FileFrame(digest=entry.digest.raw, offset=at, data=part)
            yield fleet.PublishRequest(frame=frame)


@dataclass(kw_only=True)
class ScriptedDevice:
    """A device that does exactly what a test says."""

    name: str
    stub: DeliveryServiceStub
    methods: tuple[str, ...] = ()
    versions: tuple[int, ...] = ()
    decoder_memory_bytes: int = 64 << 20
    labels: Mapping[str, str] = field(default_factory=dict)
    held: list[Digest] = field(default_factory=list)
    engines: tuple[delivery.Engine, ...] = ()
    architecture: str = "x86_64"
    memory_bytes: int = 0
    disk_free_bytes: int = 1 << 40
    counter: int = 0
    event: int = 0
    assignment: Assignment | None = None
    received: bytes = b""  # the last assignment as it came, signed or not
    models: list[delivery.ModelReport] = field(default_factory=list)

    def capabilities(self) -> delivery.Capabilities:
        from edge_sdk.delta import FORMAT_VERSION, METHODS

        return delivery.Capabilities(
            delta_versions=self.versions or (FORMAT_VERSION,),
            delta_methods=self.methods or METHODS,
            decoder_memory_bytes=self.decoder_memory_bytes,
            engines=self.engines,
            architecture=self.architecture,
            memory_bytes=self.memory_bytes,
            agent_version="0.1.0",
        )

    def check_in(self) -> Assignment | None:
        """Checks in; the assignment where a newer one came."""
        response = self.stub.CheckIn(
            delivery.CheckInRequest(
                capabilities=self.capabilities(),
                held_artifacts=[one.raw for one in self.held],
                models=self.models,
                assignment_counter=self.counter,
                disk_free_bytes=self.disk_free_bytes,
                labels=self.labels,
            ),
            timeout=30,
        )
        if not response.assignment:
            return None
        self.received = response.assignment
        sealed = b'"payloadType"' in response.assignment
        self.assignment = decode_assignment(
            peek_assignment(response.assignment) if sealed else response.assignment
        )
        self.counter = self.assignment.counter
        return self.assignment

    def plan(
        self, target: Digest, *sources: Digest, timeout_s: float = 60
    ) -> delivery.PlanResponse:
        request = delivery.PlanRequest(
            target_artifact=target.raw,
            source_artifacts=[one.raw for one in sources],
            capabilities=self.capabilities(),
        )
        return self.stub.Plan(request, timeout=timeout_s)

    def fetch(self, digest: bytes, *, offset: int = 0, length: int = 0) -> bytes:
        request = delivery.FetchRequest(digest=digest, offset=offset, length=length)
        parts = []
        for frame in self.stub.Fetch(request, timeout=60):
            assert frame.offset == offset
            assert 0 < len(frame.data) <= FRAME_BYTES
            parts.append(frame.data)
            offset += len(frame.data)
        return b"".join(parts)

    def report(self, state: str, *, model: str = "team/digits", **facts: str) -> int:
        """Reports that the assigned artifact of ``model`` reached ``state``."""
        self.event += 1
        return self.send(self.event_of(self.event, state, model=model, **facts))

    def event_of(
        self, number: int, state: str, *, model: str = "team/digits", **facts: str
    ) -> delivery.Event:
        assert self.assignment is not None
        one = next(one for one in self.assignment.models if str(one.model) == model)
        return delivery.Event(
            number=number,
            at_ms=1_700_000_000_000 + number,
            model=model,
            version=str(one.version),
            artifact=one.artifact.raw,
            rollout=one.rollout,
            attempt=one.attempt,
            state=state,
            reason=facts.pop("reason", ""),
            message=facts.pop("message", ""),
            facts=facts,
        )

    def send(self, *events: delivery.Event) -> int:
        return self.stub.Report(delivery.ReportRequest(events=events), timeout=30).acknowledged

    def commit(self, *, model: str = "team/digits", **facts: str) -> None:
        """Does as if the assigned artifact was fetched and committed, and says so."""
        self.report("committed", model=model, **facts)
        assert self.assignment is not None
        one = next(one for one in self.assignment.models if str(one.model) == model)
        if one.artifact not in self.held:
            self.held.append(one.artifact)
        self.models = [each for each in self.models if each.model != model]
        self.models.append(
            delivery.ModelReport(
                model=model,
                active_artifact=one.artifact.raw,
                active_version=str(one.version),
                state="committed",
            )
        )


class FleetServer:
    """A distributor that serves in a thread of this process."""

    def __init__(self, config: DistributorConfig) -> None:
        self.config = config
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._serving: Serving | None = None
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet-server")
        self._channels: list[grpc.Channel] = []

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(_START_S)
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        self.end()
        self._thread.join()

    def end(self) -> None:
        """Tells the server to end, without waiting for it."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    @property
    def serving(self) -> Serving:
        assert self._serving is not None
        return self._serving

    @property
    def builder(self) -> Builder:
        return self.serving.builder

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does something on the server's own loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_S)

    def operator(self, name: str = "alice") -> FleetServiceStub:
        channel = open_channel(self.serving.operator_address, Credentials(operator=name))
        self._channels.append(channel)
        return remembering(FleetServiceStub(channel), self.config.data)

    def device(self, name: str, **facts: object) -> ScriptedDevice:
        channel = open_channel(self.serving.device_address, Credentials(device=name))
        self._channels.append(channel)
        return ScriptedDevice(name=name, stub=DeliveryServiceStub(channel), **facts)  # type: ignore[arg-type]

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to start()
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with running(self.config) as serving:
            self._serving = serving
            self._ready.set()
            await self._stop.wait()


def config_for(data: Path, **settings: object) -> DistributorConfig:
    """On free ports, with one build worker and short waits."""
    base = DistributorConfig(
        data=data,
        database=database_setting(data),
        device_address="127.0.0.1:0",
        operator_address="127.0.0.1:0",
        enrolment_address="127.0.0.1:0",
        reconnect_cap_s=0.5,
    )
    return replace(base, **settings)  # type: ignore[arg-type]


@contextmanager
def fleet_server(data: Path, **settings: object) -> Iterator[FleetServer]:
    """A distributor with a fresh or existing data folder for as long as the block lasts."""
    config = config_for(data, **settings)
    initialise(config.data, config.database)
    server = FleetServer(config)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def remembering(stub: FleetServiceStub, data: Path) -> FleetServiceStub:
    """The stub, from which ``publish`` knows where the distributor's data are."""
    stub.data_of_the_distributor = data  # type: ignore[attr-defined]
    return stub


def publish(stub: FleetServiceStub, artifact: ArtifactBytes) -> fleet.PublishResponse:
    """Publishes as a careful client does: only the files that are missing. Where the stub
    remembers its distributor, as if a publisher had signed it, too."""
    wanted = [entry.digest.raw for entry in artifact.manifest.files]
    missing = stub.MissingFiles(fleet.MissingFilesRequest(digests=wanted), timeout=30).digests
    here = [Digest(one) for one in wanted if one not in set(missing)]
    answer = stub.Publish(publish_parts(artifact, without=here), timeout=60)
    data: Path | None = getattr(stub, "data_of_the_distributor", None)
    if data is not None:
        _pretend_signed(data, artifact)
    return answer


def _pretend_signed(data: Path, artifact: ArtifactBytes) -> None:
    """As if its publisher had signed it: most tests are about something else."""
    database = Database(url_of(data))
    try:
        with database.transaction(write=True) as connection:
            pretend_signed(connection, artifact)
    finally:
        database.close()


def wait_for_rollout(
    stub: FleetServiceStub, rollout: str, *states: str, deadline_s: float = 60.0
) -> fleet.Rollout:
    """Polls until the rollout is in one of ``states``."""
    found = [stub.GetRollout(fleet.GetRolloutRequest(rollout=rollout), timeout=30)]

    def there() -> bool:
        found[0] = stub.GetRollout(fleet.GetRolloutRequest(rollout=rollout), timeout=30)
        return found[0].state in states

    wait_until(there, deadline_s=deadline_s)
    return found[0]
