"""The other end of AgentService, for the commands of this package. Answers are plain values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from device_agent.local_api.statistics_wire import from_message
from device_agent.statistics_page import PageSnapshot
from edge_sdk.protos import agent_v1_pb2 as wire
from edge_sdk.protos import agent_v1_pb2_grpc as stubs
from edge_sdk.rpc import Credentials, open_channel, typed_errors

_ANSWER_S = 10.0
_UPDATE_S = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The statistics page as the agent read it, and when, in milliseconds since 1970."""

    page: PageSnapshot
    now_ms: int


class AgentQuestions:
    """Raises, from every method: UnavailableError, and what the agent refused with."""

    def __init__(self, uri: str, token: str | None = None) -> None:
        """``token``: what a call shows at an address that is no socket."""
        self._peer = f"the agent at {uri}"
        self._channel = open_channel(uri, Credentials(token=token))
        self._stub = stubs.AgentServiceStub(self._channel)

    def __enter__(self) -> AgentQuestions:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._channel.close()

    def status(self) -> dict[str, Any]:
        with typed_errors(self._peer):
            answer = self._stub.Status(wire.StatusRequest(), timeout=_ANSWER_S)
        return {
            "device": answer.device,
            "agent_version": answer.agent_version,
            "distributor": answer.distributor,
            "connected": answer.connected,
            "no_contact": _no_contact(answer.no_contact) if answer.HasField("no_contact") else None,
            "assignment_counter": answer.assignment_counter,
            "refusal": answer.refusal,
            "disk_free_bytes": answer.disk_free_bytes,
            "inference_address": answer.inference_address,
            "lane_address": answer.lane_address,
            "inference_ready": answer.inference_ready,
            "models": [_model(model) for model in answer.models],
        }

    def models(self) -> list[dict[str, Any]]:
        with typed_errors(self._peer):
            answer = self._stub.ListModels(wire.ListModelsRequest(), timeout=_ANSWER_S)
        return [_model(model) for model in answer.models]

    def update_now(self) -> int:
        with typed_errors(self._peer):
            return self._stub.UpdateNow(
                wire.UpdateNowRequest(), timeout=_UPDATE_S
            ).assignment_counter

    def roll_back(self, model: str) -> dict[str, Any]:
        with typed_errors(self._peer):
            answer = self._stub.Rollback(wire.RollbackRequest(model=model), timeout=_ANSWER_S)
        return {"version": answer.version, "artifact": answer.artifact.hex()}

    def statistics(self) -> Asked:
        """Raises, too: FormatError (an agent of another release)."""
        with typed_errors(self._peer):
            answer = self._stub.Statistics(wire.StatisticsRequest(), timeout=_ANSWER_S)
        return Asked(page=from_message(answer), now_ms=answer.now_ms)

    def events(self, after: int, model: str, *, wait_s: float | None) -> Iterator[dict[str, Any]]:
        """``wait_s``: how long to listen; None: for ever."""
        request = wire.EventsRequest(after=after, model=model)
        with typed_errors(self._peer):
            for event in self._stub.Events(request, timeout=wait_s):
                yield {
                    "number": event.number,
                    "at_ms": event.at_ms,
                    "model": event.model,
                    "version": event.version,
                    "artifact": event.artifact.hex(),
                    "state": event.state,
                    "reason": event.reason,
                    "message": event.message,
                    "facts": dict(event.facts),
                }


def _no_contact(one: wire.NoContact) -> dict[str, Any]:
    return {
        "reason": one.reason,
        "message": one.message,
        "since_ms": one.since_ms,
        "remedy": one.remedy,
        "refused": one.refused,
    }


def _model(model: wire.Model) -> dict[str, Any]:
    return {
        "model": model.model,
        "version": model.version,
        "variant": model.variant,
        "artifact": model.artifact.hex(),
        "previous_version": model.previous_version,
        "previous_artifact": model.previous_artifact.hex(),
        "state": model.state,
        "candidate_version": model.candidate_version,
        "candidate_artifact": model.candidate_artifact.hex(),
        "done_bytes": model.done_bytes,
        "total_bytes": model.total_bytes,
        "wire_bytes": model.wire_bytes,
        "reason": model.reason,
        "message": model.message,
        "serve": model.serve,
        "cache": _cache(model.cache) if model.HasField("cache") else None,
        "watching": _fields(model.watching) if model.HasField("watching") else None,
        "serves": model.serves,
        "unserved_reason": model.unserved_reason,
        "unserved_message": model.unserved_message,
    }


def _fields(message: wire.Watching | wire.ResponseCache) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


def _cache(cache: wire.ResponseCache) -> dict[str, Any]:
    """Counts, bytes, and for each level its hits per request that asked it (None: none did)."""
    beyond = cache.file_hits + cache.shared + cache.misses
    return {
        **_fields(cache),
        "memory_hit_rate": _share(cache.memory_hits, cache.memory_hits + beyond),
        "file_hit_rate": _share(cache.file_hits, cache.file_hits + cache.misses),
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
