"""The Open Inference Protocol v2 over gRPC, on a synchronous server.

Sync beats asyncio by 15 % here. The messages are ours (edge.inference.v2), the method paths
the standard's, so stock clients work; ``model_version`` carries the semantic version.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar, cast

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from device_agent.access import (
    LOCAL_LIMITS,
    OWNER,
    Access,
    DoorThreads,
    Guard,
    OwnSocket,
    Silent,
    Streams,
    prompt,
)
from device_agent.config import ModelConfig
from device_agent.serving.dispatch import Dispatcher
from device_agent.serving.doors import describe
from device_agent.serving.doors.answers import in_stream
from device_agent.serving.doors.demanded import check_version
from device_agent.serving.doors.followed import followed
from device_agent.serving.doors.model_infer import ModelInfer, parse
from device_agent.serving.doors.regions import Regions
from device_agent.serving.doors.shared_memory import cuda_calls, system_calls
from device_agent.serving.model_table import ModelTable
from device_agent.statistics_page import TraceWriter
from edge_sdk.base import (
    BusyError,
    ConflictError,
    EdgeError,
    RefusedError,
    UnavailableError,
    UsageError,
)
from edge_sdk.protos import inference_v2_pb2 as pb
from edge_sdk.rpc import (
    MESSAGE_BYTES_MAX,
    SERVER_OPTIONS,
    check_local,
    small_messages,
    to_status,
)

SERVICE = "inference.GRPCInferenceService"
# A request that waits for its turn keeps a thread. There are more of them than may wait for one
# model, so that its queue does not hide another's requests, or a more urgent one.
_THREADS = 128
_STREAM_METHOD = f"/{SERVICE}/ModelStreamInfer"
_STREAM = LOCAL_LIMITS[_STREAM_METHOD]  # each keeps a thread as well
_PENDING = LOCAL_LIMITS[f"/{SERVICE}/ModelInfer"]  # inside, and waiting for a thread
_GRACE_S = 2.0
_OVER_S = 0.001
_EXTENSIONS = (
    *("classification", "sequence", "model_repository", "schedule_policy"),
    *("model_configuration", "parameters", "statistics"),
)

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Context = grpc.ServicerContext


class CallOverError(UnavailableError):
    """The call's own deadline is over: what a client's side says of it at the same moment."""

    grpc_status = "DEADLINE_EXCEEDED"


class InferenceDoor:
    """Listens on one address and answers from the table."""

    def __init__(
        self,
        table: ModelTable,
        dispatcher: Dispatcher,
        *,
        models: Mapping[str, ModelConfig] | None = None,
        shared_memory_prefix: str = "",
        access: Access = OWNER,
        tracer: TraceWriter | None = None,
    ) -> None:
        """``shared_memory_prefix``: of the objects that apps may register; empty: none.
        ``access``: who may connect to a socket.
        ``tracer``: told of the traces that requests belong to."""
        self._tracer = tracer
        self._table = table
        self._models = models or {}
        self._shares = bool(shared_memory_prefix)
        self._access = access
        self._regions = Regions(shared_memory_prefix, access)
        self._model_infer = ModelInfer(dispatcher, self._regions, self._models)
        self._silent_streams = Silent(_STREAM.stall_s)
        self._streams = Streams(_STREAM.all, _STREAM.each)
        self._guard: Guard | None = None
        self._threads = DoorThreads(_THREADS, name="inference", each_max=_PENDING.each)
        self._server: grpc.Server | None = None
        self._own: OwnSocket | None = None
        self.address = ""

    def open(
        self,
        address: str,
        *,
        guard: Guard | None = None,
    ) -> None:
        """``unix:/path`` or ``host:port``; ``address`` tells the port that 0 became.

        ``guard``: what callers may call, None: all.

        Raises: ConflictError (taken), RefusedError (not this machine, or not for that group),
        NotFoundError (no such folder), UsageError.
        """
        check_local(address)
        self._own = own = OwnSocket(address, self._access)
        try:
            self._listen(own, guard)
        except BaseException:
            own.close()
            raise

    def _listen(self, own: OwnSocket, guard: Guard | None) -> None:
        address = own.address
        self._guard = guard
        if guard is not None:
            guard.admit_to(self._threads)
        server = grpc.server(
            cast(ThreadPoolExecutor, self._threads),
            interceptors=[] if guard is None else [guard],
            options=small_messages(SERVER_OPTIONS, MESSAGE_BYTES_MAX),
            maximum_concurrent_rpcs=_PENDING.each if guard is None else _PENDING.all,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, self._handlers()),)
        )
        try:
            port = server.add_insecure_port(own.bind_address)
        except RuntimeError:
            raise ConflictError(f"cannot listen on {address}; is it taken?") from None
        unix = address.startswith("unix:")
        self.address = address if unix else f"{address.rpartition(':')[0]}:{port}"
        own.show()
        server.start()
        self._server = server

    def close(self) -> None:
        """Takes no more requests and waits a moment for those inside."""
        if self._server is not None:
            self._server.stop(_GRACE_S).wait()
            self._server = None
        if self._own is not None:
            self._own.close()
        self._threads.close()
        self._regions.close()

    def method_names(self) -> frozenset[str]:
        """Of the service, as it answers here."""
        return frozenset(self._handlers())

    def _handlers(self) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        unary: dict[str, tuple[type[Message], Callable[[Any, Context], Message]]] = {
            "ServerLive": (pb.ServerLiveRequest, self._live),
            "ServerReady": (pb.ServerReadyRequest, self._ready),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._server_metadata),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": (pb.ModelConfigRequest, self._config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self._unload),
            **cuda_calls(),
            **(system_calls(self._regions) if self._shares else {}),
        }
        handlers = {name: _unary(request, act) for name, (request, act) in unary.items()}
        handlers["ModelInfer"] = _unary(None, followed(self._infer, self._tracer))
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=None,
            response_serializer=None,
        )
        return {
            name: prompt(one, f"/{SERVICE}/{name}", self._guard) for name, one in handlers.items()
        }

    def _live(self, _request: pb.ServerLiveRequest, _context: Context) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    def _ready(self, _request: pb.ServerReadyRequest, _context: Context) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=self._table.ready)

    def _model_ready(
        self, request: pb.ModelReadyRequest, _context: Context
    ) -> pb.ModelReadyResponse:
        check_version(request.version)
        try:
            self._table.find(request.name, request.version, wait_s=0)
        except EdgeError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    def _server_metadata(
        self, _request: pb.ServerMetadataRequest, _context: Context
    ) -> pb.ServerMetadataResponse:
        return pb.ServerMetadataResponse(
            name="edge-model-sdk",
            version=importlib.metadata.version("edge-model-sdk"),
            extensions=[*_EXTENSIONS, *(["system_shared_memory"] if self._shares else [])],
        )

    def _model_metadata(
        self, request: pb.ModelMetadataRequest, _context: Context
    ) -> pb.ModelMetadataResponse:
        check_version(request.version)
        return describe.metadata(self._table.find(request.name, request.version))

    def _config(self, request: pb.ModelConfigRequest, _context: Context) -> pb.ModelConfigResponse:
        check_version(request.version)
        generation = self._table.find(request.name, request.version)
        return describe.config(generation, self._models.get(request.name, ModelConfig()))

    def _statistics(
        self, request: pb.ModelStatisticsRequest, _context: Context
    ) -> pb.ModelStatisticsResponse:
        if not request.name:
            chosen = self._table.active()
        else:
            try:
                chosen = (self._table.find(request.name, request.version),)
            except EdgeError as error:
                raise UsageError(error.message) from None  # the status that the standard gives
        return pb.ModelStatisticsResponse(model_stats=[describe.statistics(one) for one in chosen])

    def _index(
        self, request: pb.RepositoryIndexRequest, _context: Context
    ) -> pb.RepositoryIndexResponse:
        models = [describe.index(one) for one in self._table.active()]
        if not request.ready:
            models += [describe.index_of_gone(model) for model in self._table.gone()]
        return pb.RepositoryIndexResponse(models=models)

    def _load(
        self, request: pb.RepositoryModelLoadRequest, _context: Context
    ) -> pb.RepositoryModelLoadResponse:
        """Only what is loaded already: what a device runs is its assignment's decision."""
        if request.parameters:
            raise RefusedError("a model cannot be configured or uploaded through this protocol")
        try:
            self._table.find(request.model_name, "")
        except EdgeError as error:
            raise EdgeError(f"failed to load {request.model_name!r}: {error.message}") from None
        return pb.RepositoryModelLoadResponse()

    def _unload(
        self, request: pb.RepositoryModelUnloadRequest, _context: Context
    ) -> pb.RepositoryModelUnloadResponse:
        if any(one.identity.model == request.model_name for one in self._table.active()):
            raise RefusedError(
                f"{request.model_name!r} is this device's to run until its assignment changes"
            )
        return pb.RepositoryModelUnloadResponse()

    def _infer(self, request: bytes, context: Context) -> bytes:
        try:
            return self._model_infer(
                request, left_s=context.time_remaining(), when_gone=context.add_callback
            )
        except UnavailableError as error:
            left_s = context.time_remaining()
            if left_s is not None and left_s <= _OVER_S:
                raise CallOverError(f"Deadline Exceeded: {error.message}") from None
            raise

    def _stream(self, requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
        """Answers in order; an error is in the band, and the stream lives on.

        One that has been silent for long gives its place to the next that comes.
        """
        end = _StreamEnd(context)
        answer = followed(self._stream_answer, self._tracer)
        try:
            with self._streams.place(context):
                while (request := self._silent_streams.next_of(requests, context)) is not None:
                    if self._guard is not None:  # the app may have been removed meanwhile
                        self._guard.check(_STREAM_METHOD, context.invocation_metadata())
                    yield answer(request, context, end)
        except EdgeError as error:
            if isinstance(error, BusyError):
                self._silent_streams.end_overdue()
            _abort(context, error)

    def _stream_answer(self, request: bytes, context: Context, end: _StreamEnd) -> bytes:
        try:
            return in_stream(
                self._model_infer(request, left_s=context.time_remaining(), when_gone=end)
            )
        except EdgeError as error:
            return pb.ModelStreamInferResponse(
                error_message=error.message, infer_response=pb.ModelInferResponse(id=id_of(request))
            ).SerializeToString()


class _StreamEnd:
    """Registers with the call once, however many requests the stream brings: what is registered
    there stays until the stream ends. Requests of a stream come one after the other."""

    def __init__(self, context: Context) -> None:
        self._then: Callable[[], None] | None = None
        self._over = False
        if not context.add_callback(self._end):
            self._over = True

    def __call__(self, then: Callable[[], None]) -> bool:
        self._then = then
        return not self._over

    def _end(self) -> None:
        self._over = True
        if self._then is not None:
            self._then()


def id_of(wire: bytes) -> str:
    try:
        return parse(wire).id
    except UsageError:
        return ""


def _unary(
    request: type[Message] | None, act: Callable[[Any, Context], Any]
) -> grpc.RpcMethodHandler[Any, Any]:
    """``request`` None: bytes are given, and bytes come back."""

    def answer(message: Any, context: Context) -> Any:
        try:
            return act(message, context)
        except EdgeError as error:
            _abort(context, error)

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=None if request is None else request.FromString,
        response_serializer=None if request is None else lambda one: one.SerializeToString(),
    )


def _abort(context: Context, error: EdgeError) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(to_status(error)))
    raise AssertionError  # abort raises; this line is for the type checker
