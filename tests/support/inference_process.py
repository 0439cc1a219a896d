"""The real inference process with the updater's end of its socket."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from device_agent.config import AgentConfig, to_json
from device_agent.records import (
    PACKET_BYTES_MAX,
    Cached,
    Drop,
    Dropped,
    Hello,
    Loading,
    Message,
    Observed,
    Prepared,
    Switch,
    Switched,
    decode_message,
    encode_message,
)
from device_agent.store import Store
from edge_sdk.base import Digest
from tests.support.held_models import prepare
from tests.support.processes import environment

ANSWER_S = 60.0
T = TypeVar("T", bound=Message)


@dataclass
class Inference:
    """A running inference process; the test plays the updater."""

    process: subprocess.Popen[bytes]
    updater: socket.socket
    store: Store
    address: str
    hello: Hello | None = None
    observed: list[Observed] = field(default_factory=list)

    def tell(self, message: Message) -> None:
        self.updater.send(encode_message(message))

    def expect(self, kind: type[T]) -> T:
        """The next message of a kind; what inference says unasked may come first."""
        while True:
            message = decode_message(self.updater.recv(PACKET_BYTES_MAX))
            if isinstance(message, Observed):
                self.observed.append(message)
            if isinstance(message, kind):
                return message
            assert isinstance(message, (Observed, Loading, Cached)), message

    def prepare(self, artifact: Digest) -> Prepared:
        self.tell(prepare(self.store, artifact))
        return self.expect(Prepared)

    def switch(self, artifact: Digest, *, probation: bool = False) -> Switched:
        model = str(self.store.manifest(artifact).model)
        self.tell(Switch(model=model, artifact=artifact, probation=probation))
        return self.expect(Switched)

    def drop(self, model: str, artifact: Digest | None) -> Dropped:
        self.tell(Drop(model=model, artifact=artifact))
        return self.expect(Dropped)

    def anonymous_bytes(self) -> int:
        """Private memory of the process (RssAnon)."""
        with open(f"/proc/{self.process.pid}/status") as status:
            line = next(one for one in status if one.startswith("RssAnon"))
        return int(line.split()[1]) * 1024


@contextmanager
def inference(
    store: Store, *, check: bool = True, hello: bool = True, **config: object
) -> Iterator[Inference]:
    """Starts it on a Unix socket in the store's folder and ends it after the block.

    ``check``: with the pool's check mode. ``hello``: waits for it.
    """
    settings = AgentConfig(state_dir=str(store.root), device="test-1", **config)  # type: ignore[arg-type]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(ANSWER_S)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "device_agent.serving"),
            *("--config-json", to_json(settings), "--socket-fd", str(theirs.fileno())),
        ],
        pass_fds=[theirs.fileno()],
        env=environment(EDGE_POOL_CHECK="1" if check else "0"),
    )
    with ours, theirs:
        running = Inference(process, ours, store, settings.inference_uri)
        try:
            if hello:
                running.hello = running.expect(Hello)
            yield running
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(timeout=30)
            finally:
                process.kill()
                process.wait()
