"""AgentService on a synchronous gRPC server. Protobuf ends here."""

# ruff: noqa: N802 - the methods' names are those of the .proto
from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import cast

import grpc
import msgspec
from grpc_status import rpc_status

from device_agent.access import LOCAL_LIMITS, SMALL, DoorThreads, Guard, OwnSocket, Prompt, Streams
from device_agent.config import AgentConfig
from device_agent.local_api.contract import AgentDoor
from device_agent.local_api.listen import Place, places
from device_agent.local_api.statistics_wire import to_message
from device_agent.records import AgentEvent, Cached, ModelStatus, NoContact
from edge_sdk.base import ConflictError, Digest, EdgeError
from edge_sdk.protos import agent_v1_pb2 as wire
from edge_sdk.protos import agent_v1_pb2_grpc as stubs
from edge_sdk.rpc import SERVER_OPTIONS, small_messages, to_status

_THREADS = 32  # each open stream (Hold, Events) keeps one
_CALLS_MAX, _CALLS_EACH = 256, 64  # inside, and waiting for a thread
_EVENTS, _HOLD = "/edge.agent.v1.AgentService/Events", "/edge.agent.v1.AgentService/Hold"
_STREAMS_MAX, _STREAMS_EACH = LOCAL_LIMITS[_HOLD].all, LOCAL_LIMITS[_HOLD].each
_POLL_S = 0.5
_OPTIONS = small_messages(SERVER_OPTIONS, SMALL.message_bytes)


class LocalApi:
    """A server for each place, while the block lasts; ``address`` is that of the first.

    Each has threads of its own: whoever fills one socket keeps nobody from another.
    """

    def __init__(self, door: AgentDoor, config: AgentConfig) -> None:
        self._door = door
        self._config = config
        self._open = ExitStack()
        self.address = config.agent_uri

    def __enter__(self) -> LocalApi:
        """Raises: UsageError, ConflictError, RefusedError, NotFoundError."""
        self._closing = threading.Event()
        with ExitStack() as opened:
            addresses = [self._listen(place, opened) for place in places(self._config)]
            self._open = opened.pop_all()
        self.address = addresses[0]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._open.close()

    def _listen(self, place: Place, opened: ExitStack) -> str:
        """The address that it really got."""
        own = opened.enter_context(OwnSocket(place.uri, place.access))
        threads = DoorThreads(_THREADS, name="agent-api", each_max=_CALLS_EACH)
        place.guard.admit_to(threads)
        opened.callback(threads.close)
        server = grpc.server(
            cast(ThreadPoolExecutor, threads),
            interceptors=[place.guard, Prompt(place.guard)],
            options=_OPTIONS,
            maximum_concurrent_rpcs=_CALLS_MAX,
        )
        stubs.add_AgentServiceServicer_to_server(
            _Service(self._door, self._closing, place.guard), server
        )
        try:
            port = server.add_insecure_port(own.bind_address)
        except RuntimeError:
            port = 0
        if not port:
            raise ConflictError(f"cannot listen at {place.uri}; is another agent there?")
        own.show()
        server.start()
        opened.callback(lambda: server.stop(grace=2.0).wait())
        return place.uri if _is_unix(place.uri) else f"{place.uri.rpartition(':')[0]}:{port}"


def _is_unix(uri: str) -> bool:
    return uri.startswith("unix:")


class _Service(stubs.AgentServiceServicer):
    def __init__(self, door: AgentDoor, closing: threading.Event, guard: Guard) -> None:
        self._door = door
        self._closing = closing
        self._guard = guard
        self._streams = Streams(_STREAMS_MAX, _STREAMS_EACH)

    def Status(
        self, request: wire.StatusRequest, context: grpc.ServicerContext
    ) -> wire.StatusResponse:
        with _typed(context):
            status = self._door.status()
            return wire.StatusResponse(
                device=status.device,
                agent_version=status.agent_version,
                distributor=status.distributor,
                connected=status.connected,
                no_contact=None if status.no_contact is None else _no_contact(status.no_contact),
                assignment_counter=status.assignment_counter,
                refusal=status.refusal,
                disk_free_bytes=status.disk_free_bytes,
                inference_address=status.inference_address,
                lane_address=status.lane_address,
                inference_ready=status.inference_ready,
                models=[_model(model) for model in status.models],
            )

    def ListModels(
        self, request: wire.ListModelsRequest, context: grpc.ServicerContext
    ) -> wire.ListModelsResponse:
        with _typed(context):
            return wire.ListModelsResponse(models=[_model(one) for one in self._door.models()])

    def UpdateNow(
        self, request: wire.UpdateNowRequest, context: grpc.ServicerContext
    ) -> wire.UpdateNowResponse:
        with _typed(context):
            return wire.UpdateNowResponse(assignment_counter=self._door.update_now())

    def Rollback(
        self, request: wire.RollbackRequest, context: grpc.ServicerContext
    ) -> wire.RollbackResponse:
        with _typed(context):
            version, artifact = self._door.roll_back(request.model)
            return wire.RollbackResponse(version=version, artifact=artifact.raw)

    def Events(
        self, request: wire.EventsRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.Event]:
        with _typed(context), self._streams.place(context):
            feed = self._door.events(request.after)
            try:
                while context.is_active() and not self._closing.is_set():
                    self._guard.check(_EVENTS, context.invocation_metadata())
                    event = feed.next(_POLL_S)
                    if event is not None and request.model in ("", event.model):
                        yield _event(event)
            finally:
                feed.close()

    def Statistics(
        self, request: wire.StatisticsRequest, context: grpc.ServicerContext
    ) -> wire.StatisticsResponse:
        with _typed(context):
            return to_message(self._door.statistics(), now_ms=time.time_ns() // 1_000_000)

    def Hold(self, request: wire.HoldRequest, context: grpc.ServicerContext) -> Iterator[wire.Held]:
        with _typed(context), self._streams.place(context):
            held = self._door.hold(request.model)
            try:
                yield wire.Held(
                    folder=held.folder,
                    version=held.version,
                    artifact=held.artifact.raw,
                    files=held.files,
                )
                while context.is_active() and not self._closing.wait(_POLL_S):
                    self._guard.check(_HOLD, context.invocation_metadata())
            finally:
                self._door.let_go(held.number)


@contextmanager
def _typed(context: grpc.ServicerContext) -> Iterator[None]:
    """Errors of ours travel as status and reason."""
    try:
        yield
    except EdgeError as error:
        context.abort_with_status(rpc_status.to_status(to_status(error)))


def _no_contact(one: NoContact) -> wire.NoContact:
    return wire.NoContact(
        reason=one.reason,
        message=one.message,
        since_ms=one.since_ms,
        remedy=one.remedy,
        refused=one.refused,
    )


def _model(model: ModelStatus) -> wire.Model:
    return wire.Model(
        model=model.model,
        version=model.version,
        variant=model.variant,
        artifact=_raw(model.artifact),
        previous_version=model.previous_version,
        previous_artifact=_raw(model.previous_artifact),
        state=model.state,
        candidate_version=model.candidate_version,
        candidate_artifact=_raw(model.candidate_artifact),
        done_bytes=model.done_bytes,
        total_bytes=model.total_bytes,
        wire_bytes=model.wire_bytes,
        reason=model.reason,
        message=model.message,
        serve=model.serve,
        cache=_cache(model.cache),
        watching=None
        if model.watching is None
        else wire.Watching(**msgspec.structs.asdict(model.watching)),
        serves=model.serves,
        unserved_reason=model.unserved_reason,
        unserved_message=model.unserved_message,
    )


def _cache(cache: Cached | None) -> wire.ResponseCache | None:
    if cache is None:
        return None
    return wire.ResponseCache(
        memory_hits=cache.memory_hits,
        file_hits=cache.file_hits,
        shared=cache.shared,
        misses=cache.misses,
        entries=cache.entries,
        memory_bytes=cache.memory_bytes,
        file_bytes=cache.file_bytes,
    )


def _event(event: AgentEvent) -> wire.Event:
    return wire.Event(
        number=event.number,
        at_ms=event.at_ms,
        model=event.model,
        version=event.version,
        artifact=bytes.fromhex(event.artifact),
        state=event.state,
        reason=event.reason,
        message=event.message,
        facts=event.facts,
    )


def _raw(artifact: Digest | None) -> bytes:
    return b"" if artifact is None else artifact.raw
