"""The real processes of the demo and the benchmarks: started, watched, and always ended.

Everything goes through the commands that an operator would type. A process is asked to end
(SIGTERM) when the stage closes, in the reverse order of starting; one that does not is
killed together with its children.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from edge_sdk.base import EdgeError
from edge_sdk.fleet import Fleet, KeyFolder, OwnIdentity

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
        self._operator = folder / "operator"
        self._keys = folder / "keys"
        self._passphrase = folder / "passphrase"

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

    def start_distributor(self, *options: str, namespaces: Sequence[str]) -> Distributor:
        """With everything that trust begins with: an operator's certificate, and keys that sign
        for ``namespaces``."""
        data = self.folder / "distributor"
        self.run("edge-distributor", "init", "--data", str(data))
        ready = self.start(
            "distributor",
            command("edge-distributor"),
            *("serve", "--data", str(data)),
            *("--device-address", "127.0.0.1:0", "--operator-address", "127.0.0.1:0"),
            *("--enrolment-address", "127.0.0.1:0", "--json"),
            *options,
        )
        self.operator_address = ready["operator_address"]
        self._make_passphrase()
        self.fleet("login", "--token-file", ready["operator_token"])
        named = [argument for one in namespaces for argument in ("--namespace", one)]
        self.fleet("keys", "init", "--keys", str(self._keys), *named)
        return Distributor(
            device_address=ready["device_address"],
            operator_address=ready["operator_address"],
            pid=ready["pid"],
        )

    def open_fleet(self) -> Fleet:
        """A connection as the operator who logged in, with keys to sign what is published."""
        passphrase = self._passphrase.read_bytes()
        return Fleet(
            self.operator_address,
            identity=OwnIdentity(self._operator / "identity").fresh(),
            keys=KeyFolder(self._keys, lambda _: passphrase),
        )

    def start_agent(self, name: str, device_address: str, *options: str) -> Agent:
        """A new device: one token, and one command that enrols it and runs."""
        state_dir, token = self.folder / name, self.folder / f"{name}.token"
        self.fleet("devices", "token", "create", "--output", str(token))
        ready = self.start(
            name,
            command("edge-agent"),
            *("run", "--state", str(state_dir), "--device", name),
            *("--distributor", device_address, "--token-file", str(token), "--json"),
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
            env=self._environment(),
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
                env=self._environment(),
                # A group of its own: Ctrl-C reaches us alone, and we end everything in order.
                start_new_session=True,
            )
        self._running.append((name, process))
        return process

    def _environment(self) -> dict[str, str]:
        # A figure must not depend on settings of whoever runs it.
        own = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_")}
        return {
            **own,
            "ORT_DISABLE_TELEMETRY": "1",
            "GRPC_VERBOSITY": "ERROR",
            "EDGE_FLEET_HOME": str(self._operator),
            "EDGE_KEY_PASSPHRASE_FILE": str(self._passphrase),
        }

    def _make_passphrase(self) -> None:
        descriptor = os.open(self._passphrase, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe())

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
