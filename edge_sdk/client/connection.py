"""The way from an app to the agent on the same device."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from types import TracebackType

import grpc

from edge_sdk.base import ModelName, UnavailableError, UsageError
from edge_sdk.client.lanes import Lanes
from edge_sdk.client.model import Model
from edge_sdk.client.stubs import UNARY_DEADLINE_S, Agent, Inference
from edge_sdk.fastlane import lane_path
from edge_sdk.protos import agent_v1_pb2
from edge_sdk.rpc import Credentials, app_token, open_channel

AGENT_VARIABLE = "EDGE_AGENT_ADDRESS"
INFERENCE_VARIABLE = "EDGE_INFERENCE_ADDRESS"


def connect(
    agent: str | None = None,
    inference: str | None = None,
    *,
    token: str | None = None,
    fast_lane: bool = True,
) -> Client:
    """Opens the way to an agent; nothing is sent yet, and the agent may start later.

    ``agent`` is the address of its local API (``unix:/path`` or ``host:port``), else taken
    from EDGE_AGENT_ADDRESS. ``inference`` need not be given: the agent says it; with it alone
    (or EDGE_INFERENCE_ADDRESS), only inference works. ``token``: of this app, where the agent is
    asked over TCP; else from EDGE_APP_TOKEN, or the file that EDGE_APP_TOKEN_FILE names.
    ``fast_lane``: requests go over shared memory where the agent offers that, else, or without,
    over gRPC; answers are the same.

    Raises: UsageError (no address, or none of this form), RefusedError (another
    machine).
    """
    agent = agent or os.environ.get(AGENT_VARIABLE)
    inference = inference or os.environ.get(INFERENCE_VARIABLE)
    if not agent and not inference:
        raise UsageError(
            f"where is the agent? give connect(agent=...) or set {AGENT_VARIABLE}, "
            "such as unix:/var/lib/edge/agent.sock"
        )
    credentials = Credentials(token=app_token(token))
    return Client(agent, inference, credentials, fast_lane=fast_lane)


class Client:
    """For any number of threads. Close it, or use it as a context manager."""

    def __init__(
        self,
        agent: str | None,
        inference: str | None,
        credentials: Credentials,
        *,
        fast_lane: bool = True,
    ) -> None:
        self._fast_lane = fast_lane
        self._credentials = credentials
        self._lock = threading.Lock()
        self._channels: list[grpc.Channel] = []
        self.lanes: Lanes | None = None  # of this machine, once inference is known
        self._agent = Agent(self._open(agent), agent) if agent else None
        self._inference = self._open_inference(inference) if inference else None

    def model(self, name: str) -> Model:
        """A model by its name, such as ``team/digits``. Raises: FormatError (no such name)."""
        return Model(str(ModelName.parse(name)), self)

    def models(self) -> tuple[str, ...]:
        """Names of the models that this device holds.

        Raises: UnavailableError, UsageError (no agent's address), NotAnAgentError.
        """
        agent = self.agent()
        with agent.typed_errors():
            listed = agent.list_models(agent_v1_pb2.ListModelsRequest(), timeout=UNARY_DEADLINE_S)
        return tuple(one.model for one in listed.models)

    def agent(self) -> Agent:
        """Raises: UsageError where the agent's address was not given."""
        if self._agent is None:
            raise UsageError(
                f"this needs the agent's address: connect(agent=...) or {AGENT_VARIABLE}"
            )
        return self._agent

    @property
    def has_agent(self) -> bool:
        return self._agent is not None

    def inference(self) -> Inference:
        """Where models answer; asked from the agent once.

        Raises: UnavailableError, NotAnAgentError.
        """
        with self._lock:
            if self._inference is None:
                status = self._ask_status()
                beside = self._lane_beside(status.lane_address)
                self._inference = self._open_inference(status.inference_address, beside)
            return self._inference

    def close(self) -> None:
        """Ends calls in progress; held folders are let go."""
        for channel in self._channels:
            channel.close()
        if self.lanes is not None:
            self.lanes.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _open_inference(self, address: str, beside: str = "") -> Inference:
        path = lane_path(beside or address) if self._fast_lane else None
        self.lanes = Lanes(path) if path is not None else None
        return Inference(self._open(address), address)

    def _open(self, address: str) -> grpc.Channel:
        credentials = self._credentials
        if address.startswith("unix:"):  # there the socket's group is what counts
            credentials = replace(credentials, token=None)
        channel = open_channel(address, credentials)
        self._channels.append(channel)
        return channel

    def _lane_beside(self, address: str) -> str:
        """What the agent says; empty where it may be that of another machine."""
        return address if self.agent().address.startswith("unix:") else ""

    def _ask_status(self) -> agent_v1_pb2.StatusResponse:
        agent = self.agent()
        with agent.typed_errors():
            status = agent.status(agent_v1_pb2.StatusRequest(), timeout=UNARY_DEADLINE_S)
        if not status.inference_address:
            raise UnavailableError(f"{agent.peer} has no inference running yet; try again soon")
        return status
