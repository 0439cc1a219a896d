"""An updater in this process, between a delivery server and an inference process that obeys
a script: every message is a real packet on a real socket pair."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_agent.config import AgentConfig, ProbationConfig
from device_agent.fleet_link import EngineCapability
from device_agent.records import (
    Ask,
    Drop,
    Hello,
    Message,
    Observed,
    Prepare,
    Prepared,
    Switch,
    Switched,
    decode_message,
    encode_message,
)
from device_agent.store import Store
from device_agent.store.filesystem import FileSystem
from device_agent.trust import keep_factory_root
from device_agent.updater import Updater
from device_agent.updater.trial_values import TrialOutcome
from edge_sdk.base import Digest
from tests.support.artifacts import ArtifactBytes
from tests.support.delivery_server import DeliveryServer
from tests.support.processes import wait_for

ENGINE = EngineCapability(
    name="onnxruntime", version="1.23.2", ir_version_max=11, opset_max={"": 23}
)
ENDED = ("committed", "failed", "rolled_back")


class ScriptedInference:
    """Answers every message as a healthy inference process would, unless told otherwise."""

    def __init__(self, end: socket.socket, state: Path) -> None:
        self.end = end
        self.state = state
        self.pid = 100
        self.serving: dict[str, Digest] = {}
        self.damaged: tuple[Digest, ...] = ()
        self.received: list[Message] = []
        self.refuses: set[Digest] = set()  # Prepare is answered with ok=False
        self.reason = "EngineError"
        self.silent = False
        self.fails_switch: set[Digest] = set()
        self.observed: Callable[[Switch], Observed] | None = observe_well
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Its thread ends before its socket does: the number may be another file's at once."""
        with contextlib.suppress(OSError):  # the updater closed its end
            self.end.shutdown(socket.SHUT_RDWR)
        self._thread.join(20)
        assert not self._thread.is_alive()
        self.end.close()

    def say(self, message: Message) -> None:
        self.end.send(encode_message(message))

    def hello(self) -> None:
        self.say(Hello(protocol=1, pid=self.pid, serving=dict(self.serving), damaged=self.damaged))

    def crash(self) -> None:
        """Dies and is started again: it serves what its slots say."""
        self.pid += 1
        self.serving = {
            slot.model: slot.starts_with
            for slot in Store(self.state).slots()
            if slot.starts_with is not None
        }
        self.hello()

    def kinds(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.received if isinstance(message, kind)]

    def _run(self) -> None:
        while True:
            try:
                packet = self.end.recv(1 << 18)
            except OSError:
                return
            if not packet:
                return
            message = decode_message(packet)
            self.received.append(message)
            if not self.silent:
                with contextlib.suppress(ConnectionError):  # the updater ended meanwhile
                    self._answer(message)

    def _answer(self, message: Message) -> None:
        if isinstance(message, Ask):
            self.hello()
        elif isinstance(message, Prepare):
            ok = message.artifact not in self.refuses
            self.say(
                Prepared(
                    model=message.model,
                    artifact=message.artifact,
                    ok=ok,
                    reason="" if ok else self.reason,
                    message="" if ok else "as the test wants",
                    number=message.number,
                )
            )
        elif isinstance(message, Switch):
            ok = message.artifact not in self.fails_switch
            if ok and message.mode == "switch":
                self.serving[message.model] = message.artifact
            self.say(
                Switched(
                    model=message.model,
                    artifact=message.artifact,
                    ok=ok,
                    reason="" if ok else "EngineError",
                    number=message.number,
                )
            )
            if ok and message.probation and self.observed is not None:
                self.say(self.observed(message))
        elif isinstance(message, Drop) and message.artifact is None:
            self.serving.pop(message.model, None)


def observe_well(switch: Switch) -> Observed:
    """As fast as before, some requests, no errors."""
    return observation(switch, requests=9)


def mirrored(
    switch: Switch, *, pairs: int = 40, slower: float = 1.0, agreed: int | None = None
) -> Observed:
    """Of a canary or shadow: that many requests ran on both."""
    return Observed(
        model=switch.model,
        artifact=switch.artifact,
        requests=pairs,
        errors=0,
        active_compute_ns=(),
        candidate_compute_ns=(),
        rss_bytes=1,
        number=switch.number,
        before_requests=pairs,
        mirrored=pairs,
        agreed=pairs if agreed is None else agreed,
        rows=pairs,
        rows_agreed=pairs,
        paired_active_ns=tuple(range(1000, 1000 + pairs)),
        paired_candidate_ns=tuple(int(slower * ns) for ns in range(1000, 1000 + pairs)),
    )


def observation(
    switch: Switch, *, requests: int = 0, errors: int = 0, slower: float = 1.0, samples: int = 8
) -> Observed:
    return Observed(
        model=switch.model,
        artifact=switch.artifact,
        requests=requests,
        errors=errors,
        active_compute_ns=(1000,) * samples,
        candidate_compute_ns=(int(1000 * slower),) * samples,
        rss_bytes=1,
        number=switch.number,
    )


class Rig:
    """``trial`` passes every candidate at once, unless a test wants the real one.

    ``start`` runs an updater on the state folder; ``stop`` ends it; both may be repeated,
    as after a restart of the process."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.state = folder / "state"
        self.server = DeliveryServer(folder=folder / "server").start()
        self.config = AgentConfig(
            state_dir=str(self.state),
            device="kiosk-7",
            distributor=self.server.address,
            check_in_s=3600,
            retry_base_s=0.02,
            retry_cap_s=0.1,
            disk_reserve_bytes=0,
            probation=ProbationConfig(duration_s=0.05, deadline_s=0.2, samples_min=4),
        )
        self.configure(**settings)
        self.trial: Callable[..., TrialOutcome] = lambda *_: TrialOutcome(ok=True)
        self.engines: tuple[EngineCapability, ...] = (ENGINE,)
        self.inference: ScriptedInference | None = None
        self._thread: threading.Thread | None = None

    def configure(self, **settings: Any) -> None:
        self.config = dataclasses.replace(self.config, **settings)

    def start(self) -> Rig:
        if self.server.signed is not None and not (self.state / "trust").exists():
            self.state.mkdir(exist_ok=True)
            keep_factory_root(FileSystem(), self.state / "trust", self.server.signed.root)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours = ours
        self.updater = Updater(self.config, ours, engines=lambda: self.engines, trial=self.trial)
        if self.inference is None:
            self.inference = ScriptedInference(theirs, self.state)
        else:  # only the updater was started again
            self.inference.close()
            old = self.inference
            self.inference = ScriptedInference(theirs, self.state)
            self.inference.serving, self.inference.pid = old.serving, old.pid
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def _run(self) -> None:
        try:
            self.updater.run()
        except BaseException as error:  # noqa: BLE001 - shown by the test that waits
            self.failure = error

    def stop(self) -> None:
        if self._thread is not None:
            self.updater.loop.stop()
            self._thread.join(20)
            assert not self._thread.is_alive()
            self._thread = None
            self._ours.close()

    def close(self) -> None:
        self.stop()
        if self.inference is not None:
            self.inference.close()
        self.server.stop()
        if self.failure is not None:
            raise self.failure

    def wait(self, question: Callable[[], Any], what: str, deadline_s: float = 30.0) -> Any:
        def asked() -> Any:
            if self.failure is not None:
                raise AssertionError(f"the updater died of {self.failure!r}") from self.failure
            return question()

        try:
            return wait_for(asked, what, deadline_s=deadline_s, every_s=0.01)
        except AssertionError:
            said = [(e.model, e.version, e.state, e.reason, e.message) for e in self.server.events]
            raise AssertionError(f"{what}: never; reported so far: {said}") from None

    def wait_for_end(self, artifact: ArtifactBytes, state: str = "") -> str:
        """The end that an update came to, as reported."""

        def ended() -> str:
            states = self.server.states(artifact)
            last = states[-1] if states else ""
            return last if last in ENDED and state in ("", last) else ""

        found: str = self.wait(ended, f"an end of {artifact.manifest.version} ({state})")
        return found

    def active(self, model: str = "team/digits") -> Digest | None:
        slot = Store(self.state).slot_files.get(model)
        return None if slot is None else slot.active

    def files_of(self, artifact: ArtifactBytes) -> dict[str, bytes]:
        """What lies in the artifact's tree."""
        root = Store(self.state).tree(artifact.artifact)
        return {path: (root / path).read_bytes() for path in artifact.files}
