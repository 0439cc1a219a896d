"""Settings of a model under measurement, each in a process of its own."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from device_agent.config import ModelConfig
from device_agent.tuning.choose import Setting
from device_agent.tuning.messages import Ask, Start, Told
from edge_sdk.base import Digest, EdgeError, RefusedError, UnavailableError, error_classes

_COMMAND = (sys.executable, "-m", "device_agent.tuning.child")
_NICE = 10
_LOAD_S = 300.0
_ANSWER_S = 120.0  # beyond what was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The model to be tuned: its proved folder, and how it is served but for the setting."""

    model: str
    folder: Path
    entry: str
    artifact: Digest
    engine: str
    golden_path: str | None
    served: ModelConfig
    engine_threads: int = 1
    memory_bytes: int = 0


class Trial(Protocol):
    """One setting, loaded."""

    @property
    def loaded(self) -> Told: ...

    def measure(self, seconds: float, clients: int) -> Told:
        """Raises: UnavailableError where the process died."""


class Trials(Protocol):
    """Where settings are loaded. A test plays one."""

    def open(self, setting: Setting) -> AbstractContextManager[Trial]:
        """Raises: what the model could not be loaded with; UnavailableError."""


class ProcessTrials:
    """Settings of a job in processes."""

    def __init__(self, job: Job, scratch: Path) -> None:
        """``scratch``: a folder for what engines make of the model, gone afterwards."""
        self._job = job
        self._scratch = scratch

    @contextmanager
    def open(self, setting: Setting) -> Iterator[Trial]:
        job = self._job
        served = replace(
            job.served,
            threads=setting.threads,
            loading=setting.loading,
            batch_max=setting.batch_max,
            states={},  # what a sequence's step costs is the same run: states are inputs here
            states_start={},
        )
        start = Start(
            model=job.model,
            folder=str(job.folder),
            entry=job.entry,
            engine=job.engine,
            artifact=str(job.artifact),
            golden_path=job.golden_path,
            plans_folder=str(self._scratch / "plans"),
            served=asdict(served),
            engine_threads=job.engine_threads,
            memory_bytes=job.memory_bytes,
            nice=_NICE,
        )
        # Of a group of its own: Ctrl-C of a terminal is for us.
        process = subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        try:
            yield ProcessTrial(process, start)
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):
                    pipe.close()


class ProcessTrial:
    """One process."""

    def __init__(self, process: subprocess.Popen[bytes], start: Start) -> None:
        """Raises: what loading raised there; UnavailableError."""
        self._process = process
        told = self._exchange(start, _LOAD_S)
        if told.state == "refused":
            raise error_classes().get(told.reason, EdgeError)(told.message)
        self.loaded = told

    def measure(self, seconds: float, clients: int) -> Told:
        return self._exchange(Ask(seconds=seconds, clients=clients), seconds + _ANSWER_S)

    def _exchange(self, message: msgspec.Struct, wait_s: float) -> Told:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        with suppress(BrokenPipeError):  # how it ended says more
            stdin.write(msgspec.json.encode(message) + b"\n")
            stdin.flush()
        # Each message is answered by one line, so nothing else is in the buffer.
        if not select.select([stdout], [], [], wait_s)[0]:
            raise UnavailableError(f"a measurement gave no answer within {wait_s:.0f} s")
        line = stdout.readline()
        if not line:
            code = self._process.wait()
            raise RefusedError(f"the process with this setting ended (exit {code})")
        return msgspec.json.decode(line, type=Told)
