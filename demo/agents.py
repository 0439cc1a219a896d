"""What the demo asks the agents: their local status, and answers for measuring accuracy."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from demo import digits, graph
from demo.client import Asker, Counts
from demo.stage import Agent, DemoError, Stage, command_of
from edge_sdk.fleet import Fleet
from edge_sdk.protos import agent_v1_pb2 as wire
from edge_sdk.protos import agent_v1_pb2_grpc
from edge_sdk.rpc import Credentials, open_channel, typed_errors

_DEADLINE_S = 10.0
_KNOWN_S = 60.0


class LocalStatus:
    """The agent's own word on one model, over its AgentService."""

    def __init__(self, agent: Agent, model: str) -> None:
        self._model = model
        self._name = agent.name
        self._channel = open_channel(agent.agent_address, Credentials())
        self._stub = agent_v1_pb2_grpc.AgentServiceStub(self._channel)

    def model(self) -> wire.Model:
        """Empty where the agent does not know the model."""
        with typed_errors(self._name):
            answer = self._stub.ListModels(wire.ListModelsRequest(), timeout=_DEADLINE_S)
        return next((one for one in answer.models if one.model == self._model), wire.Model())

    def close(self) -> None:
        self._channel.close()


def wait_until_known(fleet: Fleet, agent: Agent) -> None:
    """An agent that is ready serves; it can get rollouts only once it has checked in.

    Raises: DemoError.
    """
    deadline_s = time.monotonic() + _KNOWN_S
    while agent.name not in {one.device for one in fleet.devices()}:
        if time.monotonic() > deadline_s:
            raise DemoError(f"{agent.name} did not check in within {_KNOWN_S:g} s")
        time.sleep(0.05)


def measure_accuracy(agent: Agent, model: str, version: str, data: digits.Digits) -> float:
    """Share of held-out digits that the agent's active version gets right.

    Raises: RuntimeError where another version answers.
    """
    asker = Asker(agent.inference_address, model, {graph.INPUT: data.held_out_images})
    try:
        answered, outputs = asker.ask()
    finally:
        asker.close()
    if answered != version:
        raise RuntimeError(f"{agent.name} answers with version {answered}, not {version}")
    return digits.accuracy(outputs[graph.OUTPUT], data.held_out_labels)


class Traffic:
    """One ``demo.client`` process for each agent, and the counts it told last."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._counts: dict[str, Counts] = {}
        self._readers: list[threading.Thread] = []

    def start(self, agent: Agent, model: str, expected: Path, requests_per_s: float) -> None:
        name = f"client-{agent.name}"
        process = self._stage.spawn(
            name,
            command_of(
                "demo.client",
                *(agent.inference_address, model, str(expected), str(requests_per_s)),
            ),
        )
        self._counts[name] = Counts()

        def read() -> None:
            assert process.stdout is not None
            with process.stdout as output:
                for line in output:
                    self._counts[name] = msgspec.json.decode(line, type=Counts)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        self._readers.append(reader)

    def stop(self) -> None:
        """Ends the clients; the counts are final afterwards."""
        for name in self._counts:
            self._stage.end(name)
        for reader in self._readers:
            reader.join(10)

    @property
    def served(self) -> int:
        return sum(one.served for one in self._counts.values())

    @property
    def failed(self) -> int:
        return sum(one.failed for one in self._counts.values())

    @property
    def slowest_ms(self) -> float:
        return max((one.slowest_ms for one in self._counts.values()), default=0.0)

    @property
    def problems(self) -> list[str]:
        return [problem for one in self._counts.values() for problem in one.problems]

    def by_version(self) -> Mapping[str, int]:
        totals: dict[str, int] = {}
        for one in self._counts.values():
            for version, count in one.by_version.items():
                totals[version] = totals.get(version, 0) + count
        return totals
