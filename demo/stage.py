"""The real processes of the demo and the benchmarks: started, watched, and always ended.

Everything goes through the commands that an operator would type. A process is asked to end
(SIGTERM) when the stage closes, in the reverse order of starting; one that does not is
killed together with its children.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edge_sdk.base import EdgeError

_READY_S = 60.0
_END_S = 15.0

_MODULES = {
    "edge-distributor": "distributor.cli",
    "edge-agent": "device_agent.cli",
    "edge-fleet": "edge_sdk.fleet.cli",
}


class DemoError(EdgeError):
    """A promise did not hold, or a process did not do what it had to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributor:
    device_address: str
    operator_address: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """``pid`` is the supervisor's."""

    name: str
    agent_address: str
    inference_address: str
    state_dir: Path
    pid: int


class Stage:
    """A context manager over one folder; ``folder`` and all it holds belong to the caller."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._outputs: list[IO[bytes]] = []
        self.operator_address = ""

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._running:
            _end(self._running.pop()[1])
        for output in self._outputs:
            output.close()

    def start_distributor(self, *options: str) -> Distributor:
        data = self.folder / "distributor"
        self.run("edge-distributor", "init", "--data", str(data))
        ready = self.start(
            "distributor",
            command("edge-distributor"),
            *("serve", "--data", str(data)),
            *("--device-address", "127.0.0.1:0", "--operator-address", "127.0.0.1:0", "--json"),
            *options,
        )
        self.operator_address = ready["operator_address"]
        return Distributor(
            device_address=ready["device_address"],
            operator_address=ready["operator_address"],
            pid=ready["pid"],
        )

    def start_agent(self, name: str, device_address: str, *options: str) -> Agent:
        state_dir = self.folder / name
        ready = self.start(
            name,
            command("edge-agent"),
            *("run", "--state", str(state_dir), "--device", name),
            *("--distributor", device_address, "--json"),
            *options,
        )
        return Agent(
            name=name,
            agent_address=ready["agent_address"],
            inference_address=ready["inference_address"],
            state_dir=state_dir,
            pid=ready["pid"],
        )

    def end(self, name: str) -> None:
        """Ends one process now. Its output can still be read to its end."""
        for entry in [one for one in self._running if one[0] == name]:
            self._running.remove(entry)
            _end(entry[1])

    def fleet(self, *arguments: str) -> Any:
        """``edge-fleet`` with ``--json``: the document that it prints."""
        return self.run("edge-fleet", "--distributor", self.operator_address, *arguments, "--json")

    def run(self, program: str, *arguments: str) -> Any:
        """Runs one command to its end; its JSON document, or None where it prints none."""
        done = subprocess.run(
            [*command(program), *arguments],
            capture_output=True,
            check=False,
            env=_environment(),
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise DemoError(
                f"{program} {' '.join(arguments)} ended with {done.returncode}: "
                f"{done.stderr.decode(errors='replace').strip()[-800:]}"
            )
        return json.loads(done.stdout) if done.stdout.strip().startswith((b"{", b"[")) else None

    def start(self, name: str, program: list[str], *arguments: str) -> dict[str, Any]:
        """Starts a process and waits for its JSON document that says it is ready."""
        process = self.spawn(name, [*program, *arguments])
        assert process.stdout is not None
        self._outputs.append(process.stdout)
        text, deadline_s = b"", time.monotonic() + _READY_S
        while time.monotonic() < deadline_s:
            readable, _, _ = select.select([process.stdout], [], [], 0.2)
            piece = os.read(process.stdout.fileno(), 1 << 16) if readable else b""
            text += piece
            with contextlib.suppress(ValueError):
                document: dict[str, Any] = json.loads(text)
                return document
            if readable and not piece:
                break
        raise DemoError(f"{name} did not become ready; it said:\n{self.said(name)}")

    def spawn(self, name: str, arguments: list[str]) -> subprocess.Popen[bytes]:
        """Starts a process whose standard error goes to ``<name>.log`` in the folder.

        Its standard output is the caller's to read and close; its standard input is a pipe that
        ends when this process is gone.
        """
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
                # A group of its own: Ctrl-C reaches us alone, and we end everything in order.
                start_new_session=True,
            )
        self._running.append((name, process))
        return process

    def said(self, name: str) -> str:
        """The end of what a process wrote to standard error."""
        log = self.folder / f"{name}.log"
        return log.read_text(errors="replace")[-3000:] if log.exists() else ""

    def dead(self) -> list[str]:
        """Processes that ended although nobody asked them to."""
        return [name for name, process in self._running if process.poll() is not None]


def command(program: str) -> list[str]:
    """How a command of this checkout is run, whatever is on the PATH."""
    module = _MODULES[program]
    return [sys.executable, "-c", f"from {module} import main; main()"]


def command_of(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _environment() -> dict[str, str]:
    # A figure must not depend on settings of whoever runs it.
    own = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_")}
    quiet = {"ORT_DISABLE_TELEMETRY": "1", "GRPC_VERBOSITY": "ERROR"}
    return {**own, **quiet, "EDGE_TEST_PLAINTEXT": "1"}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and whatever is left of its group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()
