"""A real agent whose distributor, and everything on the way to it, is an attacker's.

The agent is the product's own command with its processes; the attacker serves real gRPC from
the test's process and holds whichever keys of the fleet a test gives it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from device_agent.store import Store
from device_agent.store.filesystem import FileSystem
from device_agent.trust import keep_factory_root
from edge_sdk.base import Digest
from edge_sdk.protos import delivery_v1_pb2 as wire
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.delivery_server import DeliveryServer
from tests.support.fleet_on_loopback import FAST_PROBATION
from tests.support.processes import Command, wait_for
from tests.support.trust import SignedFleet

ROOT = Path(__file__).parents[2]
CONTROLS = Path(__file__).parent / "controls"
MODEL = "team/digits"


def artifact(version: str, content: str = "", *, model: str = MODEL) -> ArtifactBytes:
    """Files for an application: nothing has to be loaded to install them."""
    data = (content or f"{model} {version}").encode() * 100
    return make_artifact({"model.bin": data}, model=model, version=version)


V1, V2, V3 = artifact("1.0.0"), artifact("2.0.0"), artifact("3.0.0")
BAD = artifact("2.0.0", "evil")


@dataclass
class AttackedDevice:
    """``control`` takes the checks that it names out of the agent (see controls/)."""

    folder: Path
    fleet: SignedFleet = field(default_factory=SignedFleet)
    control: str = ""
    agent: Command | None = None
    environment: dict[str, str] = field(default_factory=dict)
    kept_files: dict[str, bytes] = field(default_factory=dict)
    stolen: CryptoSigner | None = None

    def __post_init__(self) -> None:
        self.server = DeliveryServer(folder=self.folder / "server", signed=self.fleet).start()
        self.factory_root = self.fleet.root
        self.root_file = self.folder / "root.json"
        self.root_file.write_bytes(self.factory_root)
        # As ``--root`` keeps it, and what the agent loads to judge a new one is a tenth of its start.
        (self.state / "trust").mkdir(parents=True)
        keep_factory_root(FileSystem(), self.state / "trust", self.factory_root)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def start(self) -> None:
        where = ("--distributor", self.server.address, "--root", str(self.root_file))
        extra = {"EDGE_TEST_PLAINTEXT": "1", "EDGE_AGENT_CHECK_IN_S": "0.5"}
        extra["EDGE_AGENT_FAST_LANE"] = "false"  # no app asks for anything
        if self.control:
            extra |= {
                "EDGE_TEST_CONTROL": self.control,
                "PYTHONPATH": f"{ROOT}:{CONTROLS}",
            }
        self.agent = Command(
            "device_agent.cli",
            ["run", "--state", str(self.state), "--device", self.server.device, *where],
            self.folder / "agent.log",
            {**FAST_PROBATION, **extra, **self.environment},
        ).start()

    def stop(self) -> None:
        if self.agent is not None:
            self.agent.stop()
            self.agent = None

    def close(self) -> None:
        self.stop()
        self.server.stop()

    @contextlib.contextmanager
    def crash(self, lost: Iterable[str]) -> Iterator[None]:
        """What believes and installs is killed, and comes back without some cached metadata
        files, as after a bad flash block; the block is what happens meanwhile.

        The rest of the agent stays: its start is most of what a test costs.
        """
        assert self.agent is not None
        updater = self.agent.child("updater_process")
        updater.suspend()
        self._lose(lost)
        yield
        updater.kill()

    def _lose(self, names: Iterable[str]) -> None:
        cache = self.state / "trust" / "metadata"
        for name in names:
            found = list(cache.rglob(name))
            assert found, f"{name} is not among the cached files"
            for path in found:
                path.unlink()

    # -- honest history ------------------------------------------------------------------------

    def withdraw(self, one: ArtifactBytes) -> None:
        """Its publisher signs it no more, and the device has seen that."""
        self.fleet.unpublish(one.document)
        self.look()

    def look(self) -> None:
        """The device has verified what is served now: an assignment makes it look."""
        self.server.assign(V1)
        number = self.server.counter
        self.wait(
            lambda: any(one.assignment_counter == number for one in self.server.check_ins),
            "the device to look",
        )

    # -- what the device did ---------------------------------------------------------------

    def wait(self, question: Callable[[], Any], what: str, deadline_s: float = 40.0) -> Any:
        try:
            return wait_for(question, what, deadline_s=deadline_s)
        except AssertionError:
            told = [(one.version, one.state, one.reason, one.message) for one in self.server.events]
            said = "" if self.agent is None else self.agent.said()[-2000:]
            raise AssertionError(f"{what}: never; reported so far {told}\n{said}") from None

    def active(self, model: str = MODEL) -> Digest | None:
        slot = Store(self.state).slot_files.get(model)
        return None if slot is None else slot.active

    def is_installed(self, one: ArtifactBytes) -> bool:
        """It is what the slot names, or could become that without another byte."""
        held = Store(self.state).is_held(one.artifact)
        return held or self.active(str(one.manifest.model)) == one.artifact

    def wait_until_runs(self, one: ArtifactBytes) -> None:
        model = str(one.manifest.model)
        self.wait(
            lambda: self.active(model) == one.artifact and "committed" in self.server.states(one),
            f"{model} {one.manifest.version} to run",
        )

    def refusal(self, *, after: int = 0) -> wire.Event:
        """The first refusal reported after so many events."""

        def found() -> wire.Event | None:
            told = (one for one in self.server.events[after:] if one.state in _REFUSED)
            return next(told, None)

        event: wire.Event = self.wait(found, "a refusal to be reported")
        return event


_REFUSED = ("refused", "failed")
