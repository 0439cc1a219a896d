"""The values of a rollout. Pure.

A device's state in a rollout is ``building`` until its deltas are, then ``assigned``, then
what its events say: the states of a device's life (design.md section 8). It ends as one of

* ``committed``, ``failed``, ``rolled_back``: said by the device;
* ``refused``: it was never assigned; the reason says what does not fit;
* ``superseded``: a later rollout of the same model took its place;
* ``recalled``: the rollout was aborted and it went back to what it had before;
* ``revoked``: its key is refused, so nothing can be brought to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_sdk.base.digest import Digest
from edge_sdk.base.names import ModelName, Version
from edge_sdk.manifest.model import AssignedModel

BUILDING = "building"
ASSIGNED = "assigned"
COMMITTED = "committed"
FAILED = "failed"
REFUSED = "refused"
SUPERSEDED = "superseded"
RECALLED = "recalled"
REVOKED = "revoked"

DEVICE_STATES = frozenset(
    {
        ASSIGNED,
        "planned",
        "fetching",
        "proved",
        "tried",
        "switched",
        "on_probation",
        COMMITTED,
        FAILED,
        "rolled_back",
    }
)
SAID_BY_DEVICE = frozenset({COMMITTED, FAILED, "rolled_back"})
DECIDED_HERE = frozenset({REFUSED, SUPERSEDED, RECALLED, REVOKED})
FINAL_STATES = SAID_BY_DEVICE | DECIDED_HERE

RowKey = tuple[str, ModelName]  # device and model

RUNNING = "running"
DONE = "done"
ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Names, or a selector of labels, or both; neither: every device."""

    devices: tuple[str, ...] = ()
    selector: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequest:
    """What an operator asks for. ``retry``: also where this very version failed before.

    ``together``: more models, that come to each device with the first one or not at all.
    """

    model: ModelName
    version: Version
    cohort: Cohort
    retry: bool = False
    together: tuple[tuple[ModelName, Version], ...] = ()

    @property
    def wanted(self) -> dict[ModelName, Version]:
        """Every model with its version, the first one first."""
        return {self.model: self.version, **dict(self.together)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDevice:
    """One model on one device of a rollout. ``artifact`` none: it gets none (refused, or an
    undo)."""

    device: str
    model: ModelName
    artifact: Digest | None
    version: str
    variant: str
    state: str
    changed_ms: int
    attempt: int = 0
    reason: str = ""
    message: str = ""
    counter: int = 0  # of the assignment that brought it; 0: not assigned yet
    event: int = 0  # number of the newest event counted; 0: none
    wire_bytes: int = 0
    whole_bytes: int = 0
    facts: Mapping[str, str] = field(default_factory=dict)
    previous: AssignedModel | None = None  # what the device was to run before

    @property
    def key(self) -> RowKey:
        return self.device, self.model

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A rollout; a version is "" where an undo takes devices to different ones.

    ``together``: the models, with their versions, that come as one group with the first.
    """

    rollout: str
    model: ModelName
    version: str
    cohort: Cohort
    state: str  # building, running, done, aborted
    created_ms: int
    retry: bool = False
    reason: str = ""
    undoes: str = ""
    deltas_done: int = 0
    deltas_total: int = 0
    devices: tuple[RolloutDevice, ...] = ()  # by device and model
    together: tuple[tuple[ModelName, str], ...] = ()

    @property
    def models(self) -> tuple[ModelName, ...]:
        return (self.model, *(model for model, _ in self.together))


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What a transaction changed: rollouts to show again, devices to wake."""

    rollouts: frozenset[str] = frozenset()
    devices: frozenset[str] = frozenset()

    def __or__(self, other: Touched) -> Touched:
        return Touched(
            rollouts=self.rollouts | other.rollouts, devices=self.devices | other.devices
        )
