"""A whole fleet on this machine: a distributor, agents, and the operator's connection."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx

from edge_sdk.fleet import Cohort, Draft, Fleet, KeyFolder, Published, Rollout
from tests.support import processes
from tests.support.onnx_models import mlp, save
from tests.support.processes import Command, wait_for
from tests.support.signed_fleet import first_keys

MODEL = "team/digits"
NAMESPACES = ("team",)
SIZES = (64, 512, 512, 10)
FAST_PROBATION = {
    "EDGE_AGENT_PROBATION_DURATION_S": "1.0",
    "EDGE_AGENT_PROBATION_SAMPLES_MIN": "8",
    # So few samples say nothing about speed on a busy machine: only tests of speed judge it.
    "EDGE_AGENT_PROBATION_RATIO_MAX": "50.0",
    "EDGE_AGENT_RETRY_BASE_S": "0.1",
    "EDGE_AGENT_RETRY_CAP_S": "1.0",
}


@dataclass
class LoopbackFleet:
    """``folder`` holds everything: data of the distributor, state and logs of the agents."""

    folder: Path
    distributor: Command
    keys: KeyFolder
    commands: list[Command] = field(default_factory=list)

    @property
    def device_address(self) -> str:
        return str(self.distributor.ready["device_address"])

    @property
    def operator_address(self) -> str:
        return str(self.distributor.ready["operator_address"])

    def start_distributor(self, *arguments: str) -> None:
        """Again, after it was killed or stopped."""
        fixed = ["--device-address", self.device_address]
        fixed += ["--operator-address", self.operator_address]
        self.distributor = processes.distributor(
            self.folder / "data", self.distributor.log, "--build-workers", "1", *fixed, *arguments
        )

    def operator(self) -> Fleet:
        """A connection that signs what it publishes."""
        return Fleet(self.operator_address, operator="tester", keys=self.keys)

    @property
    def root(self) -> Path:
        """What devices trust from the factory on."""
        return self.keys.folder / "root.json"

    def state(self, device: str) -> Path:
        return self.folder / device

    def start_agent(
        self,
        device: str,
        *arguments: str,
        distributor: str | None = None,
        checked_in: bool = True,
        **environment: str,
    ) -> Command:
        """``checked_in``: its first check-in has been answered when this returns."""
        began_ms = int(time.time() * 1000)
        command = Command(
            "device_agent.cli",
            [
                *("run", "--state", str(self.state(device)), "--device", device),
                *("--distributor", distributor or self.device_address),
                *("--root", str(self.root)),
                *arguments,
            ],
            self.folder / f"{device}.log",
            {**FAST_PROBATION, **environment},
        ).start()
        self.commands.append(command)
        if checked_in:
            self._wait_known(device, began_ms)
        return command

    def _wait_known(self, device: str, since_ms: int) -> None:
        with self.operator() as fleet:
            wait_for(
                lambda: any(
                    one.device == device and one.last_seen_ms >= since_ms for one in fleet.devices()
                ),
                f"the check-in of {device}",
            )

    def publish(
        self, path: Path, version: str, *, variant: str = "fp32", **draft: object
    ) -> Published:
        with self.operator() as fleet:
            return fleet.publish(
                path,
                Draft(model=MODEL, version=version, variant=variant, **draft),  # type: ignore[arg-type]
            )

    def create(self, version: str, devices: Sequence[str] = (), *, retry: bool = False) -> str:
        """Creates a rollout; its number."""
        with self.operator() as fleet:
            cohort = Cohort(devices=tuple(devices))
            return fleet.rollout_create(MODEL, version, cohort, retry=retry).rollout

    def roll_out(
        self,
        version: str,
        devices: Sequence[str] = (),
        *,
        retry: bool = False,
        deadline_s: float = 90.0,
    ) -> Rollout:
        """Creates a rollout and waits until it is finished."""
        created = self.create(version, devices, retry=retry)
        return self.finished(created, deadline_s=deadline_s)

    def finished(self, rollout: str, *, deadline_s: float = 90.0) -> Rollout:
        with self.operator() as fleet:
            return list(fleet.rollout_watch(rollout, timeout_s=deadline_s))[-1]


@contextlib.contextmanager
def loopback_fleet(folder: Path, *arguments: str) -> Iterator[LoopbackFleet]:
    """A running distributor with signed metadata; at the end it and every agent are stopped and
    left nothing."""
    fleet: LoopbackFleet | None = None
    folder.mkdir(parents=True, exist_ok=True)
    running = processes.distributor(
        folder / "data", folder / "distributor.log", "--build-workers", "1", *arguments
    )
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: _stop(fleet.distributor if fleet else running))
        keys = first_keys(str(running.ready["operator_address"]), folder / "keys", *NAMESPACES)
        fleet = LoopbackFleet(folder=folder, distributor=running, keys=keys)
        stack.callback(lambda: [_stop(command) for command in fleet.commands])
        yield fleet


def _stop(command: Command) -> None:
    if command.process.poll() is None:
        command.stop()
    assert "Traceback" not in command.said(), command.said()


def versions(
    count: int, *, seed: int = 7, sizes: Sequence[int] = SIZES, step: float = 1e-4
) -> list[onnx.ModelProto]:
    """Successive versions of one perceptron: each the one before after a small random step."""
    random = np.random.default_rng(seed)
    weights = [
        (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        for shape in itertools.pairwise(sizes)
    ]
    models = []
    for _ in range(count):
        models.append(mlp(sizes, weights=weights))
        weights = [
            (one * (1 + step * random.standard_normal(one.shape))).astype(np.float32)
            for one in weights
        ]
    return models


def write_versions(folder: Path, count: int) -> list[Path]:
    """The versions as ``v1/model.onnx``, ``v2/model.onnx``, ..."""
    return [
        save(model, folder / f"v{number}" / "model.onnx")
        for number, model in enumerate(versions(count), 1)
    ]
