"""Starts updater and inference, restarts either with back-off, ends both together."""

from __future__ import annotations

import os
import random
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from device_agent.access import listening, remove_dead
from device_agent.config import AgentConfig, to_json
from device_agent.statistics_page import create_page
from device_agent.supervisor.only_one import only_one
from edge_sdk.base import ConflictError
from edge_sdk.rpc import Backoff

_BACKOFF = Backoff(base_s=0.2, cap_s=30.0)
_STEADY_S = 60.0  # a process that ran this long begins its back-off anew
_STOP_S = 15.0  # then SIGKILL
_TICK_S = 0.2
_ADDRESS_FREE_S = 3.0
_DOORS_S = 20.0  # that metrics and REST have to answer before the agent says that it is ready

WhenReady = Callable[[str, str, Mapping[str, str]], None]

# glibc's moving threshold holds on to large blocks; a fixed one takes a quarter off the peak of
# loading a model of 25 MB beside another (measured: 155 MB instead of 198). What is smaller
# comes back by ``serving.memory.give_back``: messages of camera frames are among it, and taking
# them from the system each time doubled the CPU time of a request of 600 KB over gRPC.
INFERENCE_ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 20),
    "ORT_DISABLE_TELEMETRY": "1",
}
# Starting again hardly helps (an address is taken, the state is of another release), except
# where a process of an agent that was killed a moment ago still has to end.
_USAGE_EXITS = frozenset({2, 3, 6, 7})
_USAGE_TRIES = 4


@dataclass(slots=True)
class _Child:
    name: str
    command: list[str]
    environment: dict[str, str]
    pass_fds: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    failures: int = 0
    not_before_s: float = 0.0
    says_ready: bool = False  # on a pipe that it is given, with its address
    answers: bool = False  # it said so
    vital: bool = True  # whether the agent ends when it cannot be started
    address: str = ""  # at which it alone listens
    was_ready: bool = False  # once: whatever it ends with later, it can be started


class Supervisor:
    """Runs until SIGTERM or SIGINT.

    ``on_ready(agent_address, inference_address, doors)`` once both processes answer; ``doors``
    are the addresses of further processes that answer then, by name.
    """

    def __init__(
        self,
        config: AgentConfig,
        *,
        serve: bool = True,
        on_ready: WhenReady | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._on_ready = on_ready
        self._say = say or _note
        self._updater_end, self._inference_end = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._page = create_page()  # lives as long as this process, whoever else is restarted
        self._agent_address = ""
        self._serve = serve
        self._stopping = False
        self._exit_code = 0
        self._selector = selectors.DefaultSelector()
        observed = config.metrics_address or config.otlp_endpoint
        self._children = [
            self._updater(),
            *([self._inference()] if serve else []),
            *([self._metrics()] if serve and observed else []),
            *([self._rest()] if serve and config.rest_address else []),
        ]

    def run(self) -> int:
        """The exit code: 0 after SIGTERM, 130 after SIGINT, else that of a process that cannot
        be started.

        Raises: ConflictError (an agent runs on that folder, or somebody listens there).
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        state = Path(self._config.state_dir)
        with only_one(state), listening(state, self._config.agent_uri):
            try:
                wait_until_free(self._config.agent_uri)
                if self._serve:
                    wait_until_free(self._config.inference_uri)
                for child in self._children:
                    if child.address:
                        wait_until_free(child.address)
                while not self._stopping:
                    for child in self._children:
                        self._tend(child)
                    self._listen(_TICK_S)
            finally:
                self._stop()
        return self._exit_code

    def _on_signal(self, number: int, frame: object) -> None:
        if number == signal.SIGINT and not self._stopping:
            self._exit_code = 128 + number  # as of every command that Ctrl-C ended
        self._stopping = True

    # -- the processes -------------------------------------------------------------------

    def _updater(self) -> _Child:
        return _Child(
            name="updater",
            command=[
                *(sys.executable, "-m", "device_agent.supervisor.updater_process"),
                *("--parent-pid", str(os.getpid())),
                *self._arguments(self._updater_end),
            ],
            environment={**os.environ, "GRPC_VERBOSITY": "ERROR"},
            pass_fds=(self._updater_end.fileno(), self._page),
            says_ready=True,
        )

    def _inference(self) -> _Child:
        return _Child(
            name="inference",
            command=[
                *(sys.executable, "-m", "device_agent.supervisor.inference_process"),
                str(os.getpid()),
                *self._arguments(self._inference_end),
            ],
            environment={**os.environ, "GRPC_VERBOSITY": "ERROR", **INFERENCE_ENVIRONMENT},
            pass_fds=(self._inference_end.fileno(), self._page),
        )

    def _metrics(self) -> _Child:
        return _Child(
            name="metrics",
            command=[
                *(sys.executable, "-m", "device_agent.supervisor.metrics_process"),
                *("--parent-pid", str(os.getpid()), "--config-json", to_json(self._config)),
                *("--statistics-fd", str(self._page)),
            ],
            environment={**os.environ},
            pass_fds=(self._page,),
            vital=False,
            address=self._config.metrics_address,
            says_ready=bool(self._config.metrics_address),
        )

    def _rest(self) -> _Child:
        return _Child(
            name="rest",
            command=[
                *(sys.executable, "-m", "device_agent.supervisor.rest_process"),
                *("--parent-pid", str(os.getpid()), "--config-json", to_json(self._config)),
            ],
            environment={**os.environ, "GRPC_VERBOSITY": "ERROR"},
            pass_fds=(),
            vital=False,
            address=self._config.rest_address,
            says_ready=True,
        )

    def _arguments(self, end: socket.socket) -> tuple[str, ...]:
        return (
            *("--config-json", to_json(self._config), "--socket-fd", str(end.fileno())),
            *("--statistics-fd", str(self._page)),
        )

    def _start(self, child: _Child) -> None:
        child.answers = False
        ready: tuple[int, ...] = ()
        arguments: list[str] = []
        if child.says_ready:
            reader, writer = os.pipe()
            ready, arguments = (writer,), ["--ready-fd", str(writer)]
            self._selector.register(reader, selectors.EVENT_READ, child)
        try:
            child.process = subprocess.Popen(
                [*child.command, *arguments],
                env=child.environment,
                pass_fds=(*child.pass_fds, *ready),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        finally:
            for handle in ready:
                os.close(handle)
        child.started_s = time.monotonic()

    def _tend(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.not_before_s:
                try:
                    self._start(child)
                except OSError as error:  # memory or descriptors are short
                    child.failures += 1
                    self._again_later(child, str(error))
            return
        code = child.process.poll()
        if code is None:
            return
        child.process = None
        child.failures = 0 if now - child.started_s > _STEADY_S else child.failures + 1
        hopeless = child.vital and code in _USAGE_EXITS and not child.was_ready
        if hopeless and child.failures >= _USAGE_TRIES:
            self._exit_code = code
            self._stopping = True
            return
        self._again_later(child, _how(code))

    def _again_later(self, child: _Child, how: str) -> None:
        delay_s = _BACKOFF.delay_s(child.failures, random.random())  # noqa: S311 - jitter
        child.not_before_s = time.monotonic() + delay_s
        self._say(f"{child.name} ended ({how}); starting it again in {delay_s:.1f} s")

    def _listen(self, timeout_s: float) -> None:
        """Waits a little; says once that both processes answer."""
        if self._selector.get_map():
            for key, _ in self._selector.select(timeout_s):
                self._hear(key.fd, key.data)
        else:
            time.sleep(timeout_s)
        if self._on_ready is None or not self._agent_address or not self._inference_answers():
            return
        for child in self._children:
            child.was_ready = True
        doors = self._doors()
        if doors is not None:
            self._on_ready(self._agent_address, self._config.inference_uri, doors)
            self._on_ready = None

    def _doors(self) -> dict[str, str] | None:
        """Those at which a process of ours answers, by its name; None: one may yet come to."""
        doors = {}
        for child in self._children:
            if not child.address or child.failures:
                continue
            if child.answers:
                doors[child.name] = child.address
            elif child.process is None or time.monotonic() - child.started_s < _DOORS_S:
                return None
        return doors

    def _hear(self, handle: int, child: _Child) -> None:
        line = os.read(handle, 4096)
        self._selector.unregister(handle)
        os.close(handle)
        if line:
            child.answers = child.was_ready = True
            if child.vital:
                self._agent_address = line.decode().strip()

    def _inference_answers(self) -> bool:
        return not self._serve or is_open(self._config.inference_uri)

    def _stop(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        deadline_s = time.monotonic() + _STOP_S
        for process in running:
            _end(process, deadline_s)
        for key in list((self._selector.get_map() or {}).values()):
            os.close(key.fd)
        self._selector.close()
        for uri in self._config.socket_uris:
            remove_dead(uri)
        self._updater_end.close()
        self._inference_end.close()
        os.close(self._page)


def _note(line: str) -> None:
    sys.stderr.write(f"edge-agent: {line}\n")


def _end(process: subprocess.Popen[bytes], deadline_s: float) -> None:
    try:
        process.wait(max(deadline_s - time.monotonic(), 0.1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def is_open(uri: str) -> bool:
    """Whether somebody accepts connections at a local address."""
    if uri.startswith("unix:"):
        family, target = socket.AF_UNIX, uri.removeprefix("unix:")
        address: str | tuple[str, int] = target
    else:
        host, _, port = uri.rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        address = (host, int(port))
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(address) == 0


def wait_until_free(uri: str) -> None:
    """Gives the processes of an agent that was just killed a moment to go.

    Without it a stranger on the inference address would be taken for our own process.
    Raises: ConflictError.
    """
    end_s = time.monotonic() + _ADDRESS_FREE_S
    while is_open(uri):
        if time.monotonic() > end_s:
            raise ConflictError(f"another program listens on {uri}; stop it or choose another")
        time.sleep(_TICK_S)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"signal {-code}"
