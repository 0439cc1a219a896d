"""What the fleet API answers with: frozen values, no message of the wire among them.

Times are milliseconds since 1970 by the distributor's clock; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_sdk.base import Digest

FAILED_STATES = frozenset({"failed", "rolled_back"})
REFUSED_STATE = "refused"
# Of a device, after which nothing more is expected of it; the last four are decided by the
# distributor: it fits nothing, a later rollout took over, the rollout was aborted, the device's
# key is refused.
FINAL_STATES = FAILED_STATES | {"committed", REFUSED_STATE, "superseded", "recalled", "revoked"}
DONE_STATES = frozenset({"done", "aborted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldEvidence:
    """Evidence that was believed. ``digest``: of its file; ``signer``: the key or certificate."""

    kind: str
    digest: Digest
    signer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """``created`` is false where the very same artifact was there already; ``signed`` where
    it was only uploaded, without a key. ``evidence``: what came with it now."""

    artifact: Digest
    created: bool
    model: str
    version: str
    variant: str
    size_bytes: int
    sent_bytes: int
    signed: bool = False
    evidence: tuple[HeldEvidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One variant of one version in the catalog. ``parent`` is None for a first version."""

    artifact: Digest
    model: str
    version: str
    variant: str
    parent: str | None
    format: str
    size_bytes: int
    published_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVersion:
    """The files of one variant of one version, which are always kept.

    files_bytes: of all of them; golden_bytes: of these, the golden sample. key: older versions
    come to newer ones by it. devices: how many run it.
    """

    artifact: Digest
    model: str
    version: str
    variant: str
    files_bytes: int
    golden_bytes: int
    key: bool
    devices: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDelta:
    """A delta that is built; without a source it is the whole.

    methods, decoder_memory_bytes: what a device must know and allow. use: ``needed`` (by
    a rollout that is not over, or by who asked for it lately), ``fleet`` (devices as they are
    now), ``tail`` (older versions, should one come back) or ``nothing``. worth_bytes: what
    more would travel now without it.
    """

    delta: Digest
    model: str
    variant: str
    source_artifact: Digest | None
    source_version: str
    source_variant: str
    target_artifact: Digest
    target_version: str
    size_bytes: int
    methods: tuple[str, ...]
    decoder_memory_bytes: int
    built_ms: int
    use: str
    reasons: tuple[str, ...]
    could_go: bool
    worth_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What the distributor stores, and why. Deltas come the least useful first.

    What several versions or deltas share counts once in the sums. could_go_bytes: of the
    deltas, what is not needed now. budget_bytes: for the deltas of all models; 0: no limit.
    """

    versions: tuple[StoredVersion, ...]
    deltas: tuple[StoredDelta, ...]
    files_bytes: int
    deltas_bytes: int
    could_go_bytes: int
    budget_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModel:
    """One model on one device: what it should run and what it runs are two things."""

    model: str
    assigned_version: str
    assigned_artifact: Digest | None
    running_version: str
    running_artifact: Digest | None
    state: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a device did not believe, by its own clock. ``check``: which of its checks said no;
    ``message`` is "" for who may not see every namespace."""

    at_ms: int
    reason: str
    check: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """``refusal``: what it refused last; None: it took something up since, or never did."""

    device: str
    labels: Mapping[str, str]
    first_seen_ms: int
    last_seen_ms: int
    online: bool
    models: tuple[DeviceModel, ...]
    architecture: str
    memory_bytes: int
    disk_free_bytes: int
    agent_version: str
    engines: tuple[str, ...]
    refusal: Refusal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantVerdict:
    """Whether a variant fits a device, and why it does not or has its rank."""

    artifact: Digest
    model: str
    version: str
    variant: str
    fits: bool
    chosen: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    device: Device
    verdicts: tuple[VariantVerdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Which devices: names, a selector of labels, or both; neither means every device."""

    devices: tuple[str, ...] = ()
    selector: str = ""

    def __str__(self) -> str:
        parts = (",".join(self.devices), self.selector)
        return " and ".join(part for part in parts if part) or "every device"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One model of a group. ``version`` is empty as that of ``Rollout`` is."""

    model: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDevice:
    """What one device would get of one model. No artifact: it gets none, ``reason`` says why.

    steps: deltas one after the other, two by a hub.
    """

    device: str
    model: str
    variant: str
    artifact: Digest | None
    source_artifact: Digest | None
    wire_bytes: int
    whole_bytes: int
    reason: str
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """What a rollout would do; nothing was assigned by asking. ``together``: what would come
    as one group with the model."""

    model: str
    version: str
    devices: tuple[PlannedDevice, ...]
    together: tuple[ModelVersion, ...] = ()

    @property
    def wire_bytes(self) -> int:
        return sum(one.wire_bytes for one in self.devices)

    @property
    def whole_bytes(self) -> int:
        return sum(one.whole_bytes for one in self.devices)

    @property
    def without(self) -> tuple[PlannedDevice, ...]:
        """The devices that would get nothing, one entry for each model."""
        return tuple(one for one in self.devices if one.artifact is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutDevice:
    """One model on one device of a rollout; ``state`` is that of the update's life cycle, or
    ``building``, ``refused``, ``superseded``, ``recalled`` or ``revoked``, which the distributor
    decides."""

    device: str
    model: str
    version: str
    variant: str
    artifact: Digest | None
    state: str
    reason: str
    message: str
    wire_bytes: int
    whole_bytes: int
    changed_ms: int
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.state in FAILED_STATES

    @property
    def refused(self) -> bool:
        """It was never assigned: no variant fits, or there is no way to bring it there."""
        return self.state == REFUSED_STATE

    @property
    def settled(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """``state``: building, running, done or aborted. Lists leave ``devices`` empty.

    ``version`` is empty where an undo takes devices back to different versions. ``together``:
    the models that come as one group with it; ``devices`` has an entry for each of them.
    """

    rollout: str
    model: str
    version: str
    cohort: Cohort
    state: str
    reason: str
    created_ms: int
    devices: tuple[RolloutDevice, ...]
    deltas_done: int
    deltas_total: int
    undoes: str | None
    together: tuple[ModelVersion, ...] = ()

    @property
    def finished(self) -> bool:
        return self.state in DONE_STATES

    @property
    def failures(self) -> tuple[RolloutDevice, ...]:
        """Devices on which the version failed or was rolled back."""
        return tuple(one for one in self.devices if one.failed)

    @property
    def refusals(self) -> tuple[RolloutDevice, ...]:
        """Devices that were never assigned the version; their reasons say why."""
        return tuple(one for one in self.devices if one.refused)

    @property
    def removals(self) -> tuple[RolloutDevice, ...]:
        """Of an undo: devices from which the model is taken away, since they had no version
        of it before."""
        return tuple(one for one in self.devices if self.undoes and one.artifact is None)

    @property
    def succeeded(self) -> bool:
        """Done, and every device of the cohort got every version and kept it, or a later one."""
        return self.state == "done" and not self.failures and not self.refusals
