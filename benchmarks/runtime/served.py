"""The agent's inference process itself, as the supervisor starts it; the benchmark plays the
updater. Nothing of its inside is used, so that what is measured is what devices run."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import grpc

from benchmarks.runtime import processes
from benchmarks.runtime.client_child import TOKEN_VARIABLE
from device_agent.access import own_token
from device_agent.config import AgentConfig, to_json
from device_agent.records import (
    PACKET_BYTES_MAX,
    Drop,
    Dropped,
    Hello,
    Message,
    Prepare,
    Prepared,
    Switch,
    Switched,
    decode_message,
    encode_message,
)
from device_agent.supervisor.tree import INFERENCE_ENVIRONMENT
from edge_sdk.base import Digest
from edge_sdk.protos import inference_v2_pb2 as pb

_ANSWER_S = 120.0
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model file that is to be served under a name and a version."""

    model: str
    path: Path
    version: str = "1.0.0"

    @property
    def digest(self) -> Digest:
        return Digest.of(f"{self.model} {self.version} {self.path.name}".encode())


class Served:
    """A running inference process."""

    def __init__(self, process: subprocess.Popen[bytes], end: socket.socket, address: str) -> None:
        self._process = process
        self._end = end
        self._number = 0
        self.address = address
        self.pid = process.pid

    def start(self, artifact: Artifact) -> None:
        """Loads and serves it. Raises: RuntimeError."""
        self.prepare(artifact)
        self.switch(artifact)

    def prepare(self, artifact: Artifact) -> None:
        self._number += 1
        self._tell(
            Prepare(
                model=artifact.model,
                artifact=artifact.digest,
                version=artifact.version,
                variant="fp32",
                folder=str(artifact.path.parent),
                entry=artifact.path.name,
                engine="onnxruntime",
                golden_path=None,
                tolerances={},
                inputs=(),
                outputs=(),
                number=self._number,
            )
        )
        answer = self.hear(Prepared)
        if not answer.ok:
            raise RuntimeError(f"{artifact.model}: {answer.reason}: {answer.message}")

    def switch(self, artifact: Artifact) -> None:
        self._number += 1
        self._tell(
            Switch(
                model=artifact.model,
                artifact=artifact.digest,
                probation=False,
                number=self._number,
            )
        )
        answer = self.hear(Switched)
        if not answer.ok:
            raise RuntimeError(f"{artifact.model}: {answer.reason}: {answer.message}")

    def drop(self, artifact: Artifact) -> None:
        """Returns when its memory is given back."""
        self._tell(Drop(model=artifact.model, artifact=artifact.digest))
        self.hear(Dropped)

    def hear(self, kind: type[M]) -> M:
        """The next message of a kind; others are passed over. Raises: RuntimeError."""
        while True:
            packet = self._end.recv(PACKET_BYTES_MAX)
            if not packet:
                raise RuntimeError(f"inference ended with {self._process.poll()}")
            message = decode_message(packet)
            if isinstance(message, kind):
                return message

    def executions(self, model: str) -> tuple[int, int]:
        """Runs of the engine and requests answered by them, as the door's statistics say."""
        with grpc.insecure_channel(self.address) as channel:
            ask = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelStatistics",
                request_serializer=pb.ModelStatisticsRequest.SerializeToString,
                response_deserializer=pb.ModelStatisticsResponse.FromString,
            )
            (found,) = ask(pb.ModelStatisticsRequest(name=model), timeout=10).model_stats
        return found.execution_count, found.inference_count

    def _tell(self, message: Message) -> None:
        self._end.send(encode_message(message))


@contextlib.contextmanager
def serve(
    folder: Path,
    artifacts: Sequence[Artifact],
    *,
    tcp: bool = False,
    command: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    **settings: Any,
) -> Iterator[Served]:
    """Starts one in ``folder`` with these artifacts active, and ends it after the block.

    ``tcp``: its gRPC door on a TCP port, and no fast lane then. ``command``: a module of ours
    that becomes the inference process. ``settings``: of AgentConfig.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if tcp:
        os.environ[TOKEN_VARIABLE] = own_token(folder, make=True)
    address = f"127.0.0.1:{free_port()}" if tcp else f"unix:{folder / 'inference.sock'}"
    config = AgentConfig(
        state_dir=str(folder), device="bench", inference_address=address, **settings
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(_ANSWER_S)
    with ours, theirs, (folder / "inference.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(command or (sys.executable, "-m", "device_agent.serving")),
                *("--config-json", to_json(config), "--socket-fd", str(theirs.fileno())),
            ],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=log,
            env=processes.environment({**INFERENCE_ENVIRONMENT, **(variables or {})}),
        )
        theirs.close()
        running = Served(process, ours, address)
        try:
            running.hear(Hello)
            for artifact in artifacts:
                running.start(artifact)
            yield running
        finally:
            processes.end(process)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
