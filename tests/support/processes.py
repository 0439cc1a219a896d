"""The product's commands as real processes: a distributor, agents, and what they answer."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 30.0

T = TypeVar("T")


def wait_for(
    question: Callable[[], T | None], what: str, *, deadline_s: float = 60.0, every_s: float = 0.05
) -> T:
    """Asks until the answer is true; the failure says what was waited for."""
    end = time.monotonic() + deadline_s
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s} s in vain for {what}")
        time.sleep(every_s)


def environment(**extra: str) -> dict[str, str]:
    """This process's environment with the product quiet and importable."""
    return {
        **os.environ,
        "GRPC_VERBOSITY": "ERROR",
        "ORT_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
        **extra,
    }


def unmeasured(**extra: str) -> dict[str, str]:
    """The same without coverage, for commands that get a signal or a limit on file sizes.

    An exception that a signal raises while coverage holds its own lock leaves that locked,
    and the command waits for ever; and under a limit coverage cannot save.
    """
    return {
        name: text
        for name, text in environment(**extra).items()
        if not name.startswith("COVERAGE_")
    }


def program(module: str) -> list[str]:
    """How to start a command of the product without its installed script."""
    return [sys.executable, "-c", f"from {module} import main; main()"]


@dataclass
class Command:
    """One long-running command of the product, started with ``--json`` and ready."""

    module: str
    arguments: Sequence[str]
    log: Path
    extra_environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] = field(init=False)
    ready: dict[str, Any] = field(init=False)

    def start(self) -> Command:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*program(self.module), *self.arguments, "--json"],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment(**self.extra_environment),
            )
        self.ready = self._read_document()
        return self

    def _read_document(self) -> dict[str, Any]:
        """The first JSON document on standard output, however many lines it has."""
        lines: queue.Queue[bytes | None] = queue.Queue()
        stream = self.process.stdout
        assert stream is not None

        def pump() -> None:
            for line in stream:
                lines.put(line)
            lines.put(None)
            stream.close()

        threading.Thread(target=pump, daemon=True).start()
        text = b""
        end = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < end:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=0.2)
                if line is None:
                    break
                text += line
                with contextlib.suppress(json.JSONDecodeError):
                    document: dict[str, Any] = json.loads(text)
                    return document
        self.process.kill()
        self.process.wait()
        raise AssertionError(f"{self.module} did not get ready: {text!r}\n{self.said()}")

    def said(self) -> str:
        """Everything on its standard error so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def descendants(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def child(self, *marks: str) -> psutil.Process:
        """The one descendant whose command line holds all ``marks``."""

        def find() -> psutil.Process | None:
            for process in self.descendants():
                with contextlib.suppress(psutil.Error):
                    line = " ".join(process.cmdline())
                    if all(mark in line for mark in marks):
                        return process
            return None

        return wait_for(find, f"a child of {self.module} with {marks}", deadline_s=30)

    def kill(self) -> None:
        """SIGKILL, as a power cut for this process; its children must notice by themselves."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, then the exit code. Fails where it leaves a process or a traceback behind."""
        children = self.descendants()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"{self.module} did not stop:\n{self.said()}") from None
        _, left = psutil.wait_procs(children, timeout=10)
        for process in left:
            process.kill()
        assert not left, f"{self.module} left processes behind: {left}"
        return code


def _init(*where: str) -> None:
    initialised = subprocess.run(
        [*program("distributor.cli"), "init", *where],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert initialised.returncode == 0, initialised.stderr


@functools.cache
def _fresh_data() -> Path:
    """A distributor's folder as ``init`` makes it, once: each fleet gets a copy. Fleets of one
    process of tests have the same online keys and the same CA, which only their devices see."""
    folder = Path(tempfile.mkdtemp(prefix="edge-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _init("--data", str(folder / "data"))
    return folder / "data"


def distributor(data: Path, log: Path, *arguments: str) -> Command:
    """A distributor on loopback ports of its own choice unless ``arguments`` name some."""
    where = ["--data", str(data)]
    if os.environ.get("EDGE_TEST_DATABASE_URL"):
        from tests.support.catalog import database_setting

        where += ["--database", database_setting(data)]
        _init(*where)
    elif data.exists():
        _init(*where)
    else:
        shutil.copytree(_fresh_data(), data)
    addresses = []
    if "--device-address" not in arguments:
        addresses = ["--device-address", "127.0.0.1:0", "--operator-address", "127.0.0.1:0"]
    return Command("distributor.cli", ["serve", *where, *addresses, *arguments], log).start()


def agent(
    state: Path, log: Path, device: str, distributor_address: str, *arguments: str
) -> Command:
    """An agent with its state in ``state``; its addresses are in ``ready``."""
    return Command(
        "device_agent.cli",
        [
            "run",
            "--state",
            str(state),
            "--device",
            device,
            "--distributor",
            distributor_address,
            *arguments,
        ],
        log,
    ).start()


@contextlib.contextmanager
def stopping(*commands: Command) -> Iterator[None]:
    """Stops the commands at the end, however the block ends."""
    try:
        yield
    finally:
        for command in reversed(commands):
            if command.process.poll() is None:
                command.stop()
