"""Paths of the protocol's REST form, each a call to the inference process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import grpc
import msgspec

from device_agent.access import Guard
from device_agent.rest.bodies import header_length, plain, read_json, read_request, write_answer
from device_agent.statistics_page.traces import parse_traceparent
from edge_sdk.base import EdgeError, NotFoundError, UnauthenticatedError, UsageError
from edge_sdk.protos import inference_v2_pb2 as pb
from edge_sdk.rpc import AUTHORIZATION

_SERVICE = "/inference.GRPCInferenceService/"
_TIMEOUT_S = 600.0
_LENGTH = "Inference-Header-Content-Length"
_JSON = "application/json"
_TRACEPARENT_LENGTH = 55  # what later versions add is not for us
_HOSTS = frozenset({"", "localhost", "127.0.0.1", "[::1]"})

# As the standard's servers map their errors; the last three they do not have.
_STATUS = {
    "INVALID_ARGUMENT": HTTPStatus.BAD_REQUEST,
    "ALREADY_EXISTS": HTTPStatus.BAD_REQUEST,
    "NOT_FOUND": HTTPStatus.NOT_FOUND,
    "UNAVAILABLE": HTTPStatus.SERVICE_UNAVAILABLE,
    "UNIMPLEMENTED": HTTPStatus.NOT_IMPLEMENTED,
    "RESOURCE_EXHAUSTED": HTTPStatus.SERVICE_UNAVAILABLE,
    "FAILED_PRECONDITION": HTTPStatus.CONFLICT,
    "DEADLINE_EXCEEDED": HTTPStatus.GATEWAY_TIMEOUT,
    "PERMISSION_DENIED": HTTPStatus.FORBIDDEN,
}

Start = Callable[[str, list[tuple[str, str]]], object]


class Answer(NamedTuple):
    status: HTTPStatus = HTTPStatus.OK
    body: Sequence[bytes] = ()
    headers: Mapping[str, str] = {}


class Asked(NamedTuple):
    """A request's body; ``header_bytes``: of JSON at its beginning, None: all of it."""

    body: bytes
    header_bytes: int | None
    traceparent: str = ""


class NotAllowedError(UsageError):
    """The path is known, but not by this method."""


class Application:
    """WSGI; any thread may call."""

    def __init__(self, channel: grpc.Channel, address: str, guard: Guard | None = None) -> None:
        """``guard``: what each request has to show; None: who connects may ask."""
        self._channel = channel
        self._guard = guard
        self._calls: dict[str, Callable[..., Any]] = {}
        # A name in the address bar of a browser must not lead here, whatever it resolves to.
        host = address.rpartition(":")[0]
        self._hosts = None if address.startswith("unix:") else _HOSTS | {host}

    def __call__(self, environ: Mapping[str, Any], start: Start) -> Iterable[bytes]:
        try:
            answer = self._answer(environ)
        except grpc.RpcError as error:
            answer = _refused(_STATUS.get(error.code().name), error.details() or error.code().name)
        except NotAllowedError as error:
            answer = _refused(HTTPStatus.METHOD_NOT_ALLOWED, error.message)
        except UnauthenticatedError as error:
            answer = _refused(HTTPStatus.UNAUTHORIZED, error.message)
            answer = answer._replace(headers={"WWW-Authenticate": "Bearer"})
        except EdgeError as error:
            answer = _refused(_STATUS.get(error.grpc_status), error.message)
        size_bytes = sum(map(len, answer.body))
        headers = {"Content-Type": _JSON, "Content-Length": str(size_bytes), **answer.headers}
        start(f"{answer.status.value} {answer.status.phrase}", list(headers.items()))
        return answer.body

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        if self._is_foreign(environ):
            return _refused(HTTPStatus.FORBIDDEN, "only programs of this device are answered")
        if self._guard is not None:  # REST is one way to ask models, and for the role infer alone
            shown = environ.get("HTTP_AUTHORIZATION", "")
            self._guard.check(f"{_SERVICE}ModelInfer", [(AUTHORIZATION, shown)] if shown else [])
        # WSGI hands UTF-8 over as Latin-1.
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        method, act = environ["REQUEST_METHOD"], self._route(path)
        if method != act.method:
            raise NotAllowedError(f"{path} is asked for by {act.method}")
        if environ.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
            return _refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "compressed bodies are not read")
        header_bytes = header_length(environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH", ""))
        body = environ["wsgi.input"].read() if method == "POST" else b""
        return act.answer(Asked(body, header_bytes, environ.get("HTTP_TRACEPARENT", "")))

    def _is_foreign(self, environ: Mapping[str, Any]) -> bool:
        """Whether a browser asks for a page of somebody else."""
        if "HTTP_ORIGIN" in environ:
            return True
        host = environ.get("HTTP_HOST", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        return self._hosts is not None and name not in self._hosts

    def _route(self, path: str) -> _Act:
        """Raises: NotFoundError."""
        version, *rest = path.removeprefix("/").removesuffix("/").split("/")
        if version != "v2":
            raise NotFoundError(f"no such path: {path}")
        match rest:
            case []:
                return _Act("GET", lambda _: self._server_metadata())
            case ["health", "live" | "ready" as what]:
                return _Act("GET", lambda _: self._health(what))
            case ["models", "stats"]:
                return self._get("ModelStatistics", pb.ModelStatisticsRequest)
            case ["models", *names] if names:
                return self._model_route(names)
            case ["repository", "index"]:
                return _Act("POST", self._index)
            case ["repository", "models", *names, "load" | "unload" as what] if names:
                return _Act("POST", lambda _: self._load("/".join(names), what))
            case ["systemsharedmemory", *names]:
                return self._region_route(names, path)
        raise NotFoundError(f"no such path: {path}")

    def _model_route(self, names: Sequence[str]) -> _Act:
        """``MODEL[/versions/VERSION][/WHAT]``; a model's own name has slashes."""
        what = names[-1] if names[-1] in ("infer", "ready", "config", "stats") else ""
        rest = list(names[:-1] if what else names)
        version = ""
        if len(rest) > 2 and rest[-2] == "versions":
            version = rest[-1]
            rest = rest[:-2]
        model = "/".join(rest)
        if what == "infer":
            return _Act("POST", lambda asked: self._infer(model, version, asked))
        if what == "ready":
            return _Act("GET", lambda _: self._model_ready(model, version))
        rpc, request = {
            "": ("ModelMetadata", pb.ModelMetadataRequest),
            "config": ("ModelConfig", pb.ModelConfigRequest),
            "stats": ("ModelStatistics", pb.ModelStatisticsRequest),
        }[what]
        inside = "config" if what == "config" else ""
        return self._get(rpc, request, inside=inside, name=model, version=version)

    def _region_route(self, names: Sequence[str], path: str) -> _Act:
        match names:
            case ["status"]:
                return self._region_status("")
            case ["unregister"]:
                return _Act("POST", lambda _: self._unregister(""))
            case ["region", name, "status"]:
                return self._region_status(name)
            case ["region", name, "register"]:
                return _Act("POST", lambda asked: self._register(name, asked))
            case ["region", name, "unregister"]:
                return _Act("POST", lambda _: self._unregister(name))
        raise NotFoundError(f"no such path: {path}")

    # -- calls -------------------------------------------------------------------------------

    def _call(
        self, rpc: str, request: Any, answer: Any, metadata: Sequence[tuple[str, str]] = ()
    ) -> Any:
        if rpc not in self._calls:
            self._calls[rpc] = self._channel.unary_unary(
                _SERVICE + rpc,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=answer.FromString,
            )
        return self._calls[rpc](request, timeout=_TIMEOUT_S, metadata=metadata)

    def _get(self, rpc: str, request: Any, *, inside: str = "", **fields: str) -> _Act:
        """A call whose answer is given as JSON."""
        answer = getattr(pb, f"{rpc}Response")

        def act(_: Asked) -> Answer:
            message = self._call(rpc, request(**fields), answer)
            return _json(plain(getattr(message, inside) if inside else message))

        return _Act("GET", act)

    def _server_metadata(self) -> Answer:
        told = self._call("ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
        told.extensions.append("binary_tensor_data")
        return _json(plain(told))

    def _health(self, what: str) -> Answer:
        if what == "live":
            good = self._call("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse).live
        else:
            good = self._call("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse).ready
        return Answer(HTTPStatus.OK if good else HTTPStatus.BAD_REQUEST)

    def _model_ready(self, model: str, version: str) -> Answer:
        request = pb.ModelReadyRequest(name=model, version=version)
        if self._call("ModelReady", request, pb.ModelReadyResponse).ready:
            return Answer()
        return _refused(HTTPStatus.BAD_REQUEST, "Model version not ready")

    def _infer(self, model: str, version: str, asked: Asked) -> Answer:
        request, wanted = read_request(asked.body, asked.header_bytes, model=model, version=version)
        told = self._call("ModelInfer", request, pb.ModelInferResponse, _trace(asked))
        head, binary = write_answer(told, wanted)
        if not binary:
            return Answer(body=[head])
        headers = {"Content-Type": "application/octet-stream", _LENGTH: str(len(head))}
        return Answer(body=[head, *binary], headers=headers)

    def _index(self, asked: Asked) -> Answer:
        given = read_json(asked.body, dict[str, Any])
        request = pb.RepositoryIndexRequest(ready=given.get("ready") is True)
        told = self._call("RepositoryIndex", request, pb.RepositoryIndexResponse)
        return _json([plain(one) for one in told.models])

    def _load(self, model: str, what: str) -> Answer:
        if what == "load":
            load = pb.RepositoryModelLoadRequest(model_name=model)
            self._call("RepositoryModelLoad", load, pb.RepositoryModelLoadResponse)
        else:
            unload = pb.RepositoryModelUnloadRequest(model_name=model)
            self._call("RepositoryModelUnload", unload, pb.RepositoryModelUnloadResponse)
        return Answer()

    def _region_status(self, name: str) -> _Act:
        def act(_: Asked) -> Answer:
            request = pb.SystemSharedMemoryStatusRequest(name=name)
            told = self._call(
                "SystemSharedMemoryStatus", request, pb.SystemSharedMemoryStatusResponse
            )
            regions = [
                {"name": one.name, "key": one.key, "offset": one.offset, "byte_size": one.byte_size}
                for one in told.regions.values()
            ]
            return _json(regions)

        return _Act("GET", act)

    def _register(self, name: str, asked: Asked) -> Answer:
        given = read_json(asked.body, RegisterBody)
        request = pb.SystemSharedMemoryRegisterRequest(name=name, key=given.key)
        try:
            request.offset, request.byte_size = given.offset, given.byte_size
        except ValueError:
            raise UsageError("offset and byte_size are numbers of 64 bits, from 0") from None
        self._call("SystemSharedMemoryRegister", request, pb.SystemSharedMemoryRegisterResponse)
        return Answer()

    def _unregister(self, name: str) -> Answer:
        request = pb.SystemSharedMemoryUnregisterRequest(name=name)
        self._call("SystemSharedMemoryUnregister", request, pb.SystemSharedMemoryUnregisterResponse)
        return Answer()


class RegisterBody(msgspec.Struct):
    key: str
    byte_size: int
    offset: int = 0


class _Act(NamedTuple):
    method: str
    answer: Callable[[Asked], Answer]


def _json(document: Any) -> Answer:
    return Answer(body=[msgspec.json.encode(document)])


def _trace(asked: Asked) -> list[tuple[str, str]]:
    """The caller's trace, handed on where it is one: gRPC takes no other bytes in a header."""
    known = parse_traceparent(asked.traceparent) is not None
    return [("traceparent", asked.traceparent[:_TRACEPARENT_LENGTH])] if known else []


def _refused(status: HTTPStatus | None, message: str) -> Answer:
    return Answer(
        status or HTTPStatus.INTERNAL_SERVER_ERROR, [msgspec.json.encode({"error": message})]
    )
