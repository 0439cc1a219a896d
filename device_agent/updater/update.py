"""One update under way: what the journal says of it, and what only this run knows."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

from device_agent.fleet_link import PlanStep
from device_agent.store.journal import Entered
from device_agent.updater.apply import Application
from device_agent.updater.fetch import Transfer
from device_agent.updater.lifecycle import State, is_ended
from device_agent.updater.loop import Timer
from device_agent.updater.probation import Probation
from device_agent.updater.trial import Stop
from edge_sdk.base import Digest, EdgeError
from edge_sdk.manifest import AssignedModel, Manifest

# update: as assigned. repair: the active artifact again, since its files were damaged.
# return: back to the previous artifact, by somebody's wish on this device.
Kind = Literal["update", "repair", "return"]


@dataclass(slots=True, kw_only=True)
class Update:
    """Belongs to the loop's thread.

    ``fallback`` and ``spare``: active and previous artifact from before the switch.
    ``excluded``: artifacts that must not be built on, in this run.
    """

    model: str
    artifact: Digest
    version: str
    variant: str
    rollout: str
    attempt: int
    kind: Kind
    state: State
    fallback: Digest | None = None
    spare: Digest | None = None
    passing: tuple[Digest, ...] = ()

    manifest: Manifest | None = None
    steps: tuple[PlanStep, ...] = ()
    application: Application | None = None
    transfer: Transfer | None = None
    trial: Stop | None = None  # of the one that runs
    probation: Probation | None = None
    timer: Timer | None = None
    excluded: set[Digest] = field(default_factory=set)
    busy: bool = False  # holds the one place for planning, fetching and trying
    retries: int = 0  # since the last progress
    asked_wait_s: float = 0.0  # what the peer asked for at the last interruption
    proof_failures: int = 0
    deaths: int = 0  # of inference, while it loaded the candidate
    wire_bytes: int = 0
    began_s: float = field(default_factory=time.monotonic)
    reason: str = ""
    message: str = ""
    needed_bytes: int = 0  # of disk, where that was missing
    read_back: bool = False  # its files were proved in this run
    held_up: int = 0  # times in a row that the disk did not take what comes first
    resumed: bool = False  # found unfinished at the start, and not gone on with yet
    resting: bool = False  # it does not fit this device: not tried again by itself
    order: int | None = None  # to inference: the one whose answer is waited for
    asked: int = 0  # grows with each question; an answer to an older one is passed over

    def matches(self, assigned: AssignedModel) -> bool:
        """The assignment wants what this update is about."""
        return self.artifact == assigned.artifact and self.attempt == assigned.attempt

    def stop_work(self) -> None:
        """Ends what runs for it; proved chunks stay."""
        if self.transfer is not None:
            self.transfer.stop()
            self.transfer = None
        if self.application is not None:
            self.application.close()
            self.application = None
        if self.trial is not None:
            self.trial.ask()
            self.trial = None
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        self.probation = None
        self.busy = False
        self.order = None
        self.asked += 1

    @property
    def is_going_on(self) -> bool:
        """Under way, or ended and to be taken up again by itself (or not, and on purpose)."""
        return not is_ended(self.state) or self.timer is not None or self.resting

    def targets(self) -> Collection[Digest]:
        """Artifacts that this update brings here or may lead back to."""
        named = (self.artifact, self.fallback, self.spare, *self.passing)
        return [artifact for artifact in named if artifact is not None]


def begin(assigned: AssignedModel, *, kind: Kind = "update") -> Update:
    return Update(
        model=str(assigned.model),
        artifact=assigned.artifact,
        version=str(assigned.version),
        variant=assigned.variant,
        rollout=assigned.rollout,
        attempt=assigned.attempt,
        kind=kind,
        state=State.ASSIGNED,
    )


def begin_held(
    model: str, artifact: Digest, manifest: Manifest, *, kind: Kind, attempt: int = 0
) -> Update:
    """Of an artifact that is described here: a repair, or a way back. No rollout counts it."""
    return Update(
        model=model,
        artifact=artifact,
        version=str(manifest.version),
        variant=manifest.variant,
        rollout="",
        attempt=attempt,
        kind=kind,
        state=State.ASSIGNED,
        manifest=manifest,
    )


def restore(entered: Entered) -> Update:
    """From the journal, after a start."""
    kind: Kind = "update"
    if entered.kind == "repair":
        kind = "repair"
    elif entered.kind == "return":
        kind = "return"
    return Update(
        model=entered.model,
        artifact=Digest.parse(entered.artifact),
        version=entered.version,
        variant=entered.variant,
        rollout=entered.rollout,
        attempt=entered.attempt,
        kind=kind,
        state=State(entered.state),
        fallback=_digest(entered.fallback),
        spare=_digest(entered.spare),
        passing=tuple(Digest.parse(one) for one in entered.passing),
        reason=entered.reason,
        message=entered.message,
    )


def _digest(text: str) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except EdgeError:
        return None
