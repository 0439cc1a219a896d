"""Tries a candidate before any request reaches it, in a process that may die.

Runs on a background thread and waits there.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import psutil

from device_agent.config import AgentConfig, ModelConfig
from device_agent.errors import CandidateRefusedError
from device_agent.fleet_link import EngineCapability
from device_agent.store import Store
from device_agent.store.quota import PLANS_FOLDER, room
from device_agent.updater.admit import memory_bytes
from device_agent.updater.trial_values import EngineFound, PlanSpec, TrialOutcome, TrialSpec
from edge_sdk.base import Digest, ResourceError, UnavailableError
from edge_sdk.manifest import Manifest, encode_manifest

_COMMAND = (sys.executable, "-m", "device_agent.updater.trial_child")
_FACTS_S = 60.0
_ANSWER_BYTES_MAX = 1 << 20
_DATA_SLACK_BYTES = 512 << 20  # interpreter, engine library and its threads' stacks
_BUILD_SLACK_BYTES = 4 << 30  # TensorRT's builder beside CUDA: a guess, no GPU was measured


class Stop:
    """Ends a trial from another thread, also one whose child is still to be started."""

    def __init__(self) -> None:
        self.is_asked = False
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self) -> None:
        with self._lock:
            self.is_asked = True
            if self._child is not None:
                self._child.kill()

    def hold(self, child: subprocess.Popen[bytes]) -> None:
        """``child`` is what ends when it is asked for."""
        with self._lock:
            self._child = child
            if self.is_asked:
                child.kill()


def try_candidate(
    manifest: Manifest, folder: Path, config: AgentConfig, stop: Stop | None = None
) -> TrialOutcome:
    """Loads the artifact in a child and replays its golden sample.

    Raises: UnavailableError, ResourceError: no verdict about the candidate could be reached.
    """
    golden = manifest.golden
    served = config.models.get(str(manifest.model), ModelConfig())
    threads = served.threads or config.engine_threads
    free_bytes = int(psutil.virtual_memory().available)
    spec = TrialSpec(
        folder=str(folder),
        entry=manifest.entry,
        engine=manifest.requires.engine or "onnxruntime",
        golden_path=None if golden is None else golden.path,
        tolerances={}
        if golden is None
        else {name: (one.atol, one.rtol) for name, one in golden.tolerances.items()},
        threads=threads,
        loading=served.loading,
        providers=served.providers,
        batch_max=served.batch_max,
        free_bytes=min(free_bytes, config.memory_bytes or free_bytes),
        engine_options=dict(served.engine_options),
        plans=_plans(manifest, config),
        memory_bytes=_data_limit_bytes(manifest) if config.memory_bytes else 0,
        cpu_s=int(config.trial_timeout_s * max(threads, 1)) + 1,
    )
    code, answer = run_child(
        (), msgspec.json.encode(spec), timeout_s=config.trial_timeout_s, stop=stop
    )
    if code is None:
        message = f"the trial did not end within {config.trial_timeout_s:.0f} s"
        return TrialOutcome(ok=False, reason=CandidateRefusedError.__name__, message=message)
    if code < 0:
        message = f"the trial died of {signal.Signals(-code).name}"
        return TrialOutcome(ok=False, reason=CandidateRefusedError.__name__, message=message)
    try:
        outcome = msgspec.json.decode(answer, type=TrialOutcome)
    except msgspec.DecodeError:
        raise UnavailableError(f"the trial gave no answer (exit {code})") from None
    if outcome.reason == ResourceError.__name__:
        raise ResourceError(outcome.message, what="memory")
    return outcome


def _data_limit_bytes(manifest: Manifest) -> int:
    builds = manifest.requires.engine == "tensorrt"
    return memory_bytes(manifest) + (_BUILD_SLACK_BYTES if builds else _DATA_SLACK_BYTES)


def _plans(manifest: Manifest, config: AgentConfig) -> PlanSpec | None:
    """Where an engine may keep what it builds, None where there is no store yet."""
    store = Store(Path(config.state_dir))
    if not store.files.is_folder(store.root):
        return None
    free = room(store, quota_bytes=config.disk_quota_bytes, reserve_bytes=config.disk_reserve_bytes)
    return PlanSpec(
        artifact=str(Digest.of(encode_manifest(manifest))),
        folder=str(store.root / PLANS_FOLDER),
        room_bytes=free.free_bytes,
        held=tuple(map(str, store.artifacts.all())),
    )


def find_engines() -> tuple[EngineCapability, ...]:
    """Which engines this device has, asked in a child: the updater itself stays small.

    Raises: UnavailableError.
    """
    code, answer = run_child(("--facts",), b"", timeout_s=_FACTS_S)
    try:
        found = msgspec.json.decode(answer, type=list[EngineFound])
    except msgspec.DecodeError:
        raise UnavailableError(
            f"the engines of this device cannot be listed (exit {code})"
        ) from None
    return tuple(
        EngineCapability(
            name=one.name,
            version=one.version,
            ir_version_max=one.ir_version_max,
            opset_max=one.opset_max,
        )
        for one in found
    )


def run_child(
    arguments: tuple[str, ...], stdin: bytes, *, timeout_s: float, stop: Stop | None = None
) -> tuple[int | None, bytes]:
    """Runs the child; its exit status (negative: a signal; None: it was too slow, and killed)
    and what it wrote to its result descriptor."""
    reader, writer = os.pipe()
    command = [*_COMMAND, "--result-fd", str(writer), *arguments]
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    with open(reader, "rb", buffering=0) as results:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(writer,),
                env=environment,
            )
        finally:
            os.close(writer)
        try:
            if stop is not None:
                stop.hold(child)
            _send(child, stdin)
            answer = _read(results.fileno(), time.monotonic() + timeout_s)
            return child.wait(timeout=1.0 if answer is None else 10.0), answer or b""
        except subprocess.TimeoutExpired:
            return None, b""
        finally:
            child.kill()
            child.wait()


def _send(child: subprocess.Popen[bytes], data: bytes) -> None:
    assert child.stdin is not None
    try:
        with child.stdin:
            child.stdin.write(data)
    except BrokenPipeError:
        pass  # it died before it read; its exit status says how


def _read(handle: int, deadline_s: float) -> bytes | None:
    """All of the pipe, or None when the time is over."""
    parts: list[bytes] = []
    while True:
        left = deadline_s - time.monotonic()
        if left <= 0 or not select.select([handle], [], [], left)[0]:
            return None
        part = os.read(handle, 65536)
        if not part:
            return b"".join(parts)
        parts.append(part)
        if sum(map(len, parts)) > _ANSWER_BYTES_MAX:
            return None
