"""What an agent says of itself, asked through its local API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc

from edge_sdk.protos import agent_v1_pb2 as wire
from edge_sdk.protos import agent_v1_pb2_grpc as stubs
from tests.support.fleet_on_loopback import MODEL
from tests.support.processes import wait_for

_ASK_S = 10.0


class AgentView:
    """One agent at its address; answers are messages of the wire."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = stubs.AgentServiceStub(channel)

    def model(self, name: str = MODEL) -> wire.Model | None:
        """None: the agent has no such model, or does not answer at the moment."""
        try:
            listed = self._stub.ListModels(wire.ListModelsRequest(), timeout=_ASK_S)
        except grpc.RpcError:
            return None
        return next((one for one in listed.models if one.model == name), None)

    def events_until(
        self, found: Callable[[wire.Event], bool], *, after: int = 0, deadline_s: float = 60.0
    ) -> list[wire.Event]:
        """The model's events behind number ``after`` up to the first for which ``found`` holds."""
        seen: list[wire.Event] = []
        call = self._stub.Events(wire.EventsRequest(after=after, model=MODEL), timeout=deadline_s)
        try:
            for event in call:
                seen.append(event)
                if found(event):
                    return seen
        except grpc.RpcError as error:
            told = [(one.version, one.state, one.reason, one.message) for one in seen]
            raise AssertionError(f"the event never came ({error.code()}); came: {told}") from None
        finally:
            call.cancel()
        raise AssertionError("the agent ended")

    def wait_active(self, version: str, *, deadline_s: float = 60.0) -> wire.Model:
        """Until ``version`` is committed."""

        def committed() -> wire.Model | None:
            model = self.model()
            good = model is not None and model.version == version and model.state == "committed"
            return model if good else None

        return wait_for(committed, f"version {version} committed", deadline_s=deadline_s)


@contextmanager
def agent_view(address: str) -> Iterator[AgentView]:
    with grpc.insecure_channel(address) as channel:
        yield AgentView(channel)
