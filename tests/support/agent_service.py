"""A stand-in for the agent's local API, on the wire, with what it says set by the test."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
from grpc_status import rpc_status

from edge_sdk.base import NotFoundError
from edge_sdk.protos import agent_v1_pb2 as wire
from edge_sdk.protos import agent_v1_pb2_grpc as stubs
from edge_sdk.rpc import to_status


class FakeAgent(stubs.AgentServiceServicer):
    """Knows models with their folders, counts who holds them, and passes events on."""

    def __init__(self) -> None:
        self.address = ""
        self.inference_address = ""
        self.lane_address = ""
        self.models: dict[str, tuple[str, Path]] = {}  # name: (version, folder)
        self.holds = 0
        self.feed: queue.Queue[wire.Event | None] = queue.Queue()
        self.closing = threading.Event()

    def Status(
        self, request: wire.StatusRequest, context: grpc.ServicerContext
    ) -> wire.StatusResponse:
        return wire.StatusResponse(
            device="test-1",
            inference_address=self.inference_address,
            lane_address=self.lane_address,
        )

    def ListModels(
        self, request: wire.ListModelsRequest, context: grpc.ServicerContext
    ) -> wire.ListModelsResponse:
        return wire.ListModelsResponse(
            models=[
                wire.Model(model=name, version=version)
                for name, (version, _) in sorted(self.models.items())
            ]
        )

    def Events(
        self, request: wire.EventsRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.Event]:
        while (event := self.feed.get()) is not None:
            if event.number > request.after and request.model in ("", event.model):
                yield event

    def Hold(self, request: wire.HoldRequest, context: grpc.ServicerContext) -> Iterator[wire.Held]:
        if request.model not in self.models:
            error = NotFoundError(f"{request.model} is not held here")
            context.abort_with_status(rpc_status.to_status(to_status(error)))
        version, folder = self.models[request.model]
        if not version:
            return
        self.holds += 1
        try:
            names = [path.name for path in folder.iterdir()]
            yield wire.Held(folder=str(folder), version=version, files=names)
            while context.is_active() and not self.closing.wait(0.02):
                pass
        finally:
            self.holds -= 1


@contextmanager
def fake_agent(folder: Path) -> Iterator[FakeAgent]:
    """Listens on a Unix socket in ``folder`` while the block lasts."""
    agent = FakeAgent()
    server = grpc.server(ThreadPoolExecutor(8))
    stubs.add_AgentServiceServicer_to_server(agent, server)
    agent.address = f"unix:{folder}/agent.sock"
    server.add_insecure_port(agent.address)
    server.start()
    try:
        yield agent
    finally:
        agent.closing.set()
        agent.feed.put(None)
        server.stop(2).wait()
