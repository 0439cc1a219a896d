"""The values of planning: what a device is, what an artifact asks, what was decided and why.

Pure: rows of the catalog and messages of the wire become these values at the doors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_sdk.base.digest import Digest
from edge_sdk.base.names import ModelName, Version
from edge_sdk.manifest.model import Manifest, Requirements


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """An engine on a device and the newest model files that it loads.

    ``ir_version_max`` of 0 and an operator-set domain that is not named mean: not said.
    """

    name: str
    version: str = ""
    ir_version_max: int = 0
    opset_max: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderFacts:
    """What a device said it can decode. Nothing is ever planned beyond it."""

    versions: frozenset[int]
    methods: frozenset[str]
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a device said of itself at its last check-in.

    memory_bytes: what models may use in all; 0 where the device did not say.
    disk_free_bytes: None where the device did not say.
    """

    device: str
    decoder: DecoderFacts
    engines: tuple[EngineFacts, ...] = ()
    architecture: str = ""
    memory_bytes: int = 0
    accelerators: frozenset[str] = frozenset()
    disk_free_bytes: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFacts:
    """What planning needs of a manifest. ``files`` maps each file's digest to its bytes."""

    artifact: Digest
    model: ModelName
    version: Version
    variant: str
    parent: Version | None
    requires: Requirements
    serve: str
    size_bytes: int
    files: Mapping[Digest, int]

    @classmethod
    def of(cls, artifact: Digest, manifest: Manifest) -> ArtifactFacts:
        """The facts of ``manifest``, whose identity is ``artifact``."""
        return cls(
            artifact=artifact,
            model=manifest.model,
            version=manifest.version,
            variant=manifest.variant,
            parent=manifest.parent,
            requires=manifest.requires,
            serve=manifest.serve,
            size_bytes=manifest.size_bytes,
            files={entry.digest: entry.size_bytes for entry in manifest.files},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInUse:
    """Memory of a device that a new version of one model cannot have.

    active_bytes: files of this model's artifact that serves meanwhile.
    other_bytes: what the other models assigned to the device ask for.
    """

    active_bytes: int = 0
    other_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether one variant fits a device. ``reasons``: why not, or why it has its rank."""

    facts: ArtifactFacts
    fits: bool
    chosen: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """All verdicts, best first; ``chosen`` is the first one's where any fits."""

    chosen: ArtifactFacts | None
    verdicts: tuple[Verdict, ...]

    @property
    def reason(self) -> str:
        """Why no variant was chosen, in one line; empty where one was."""
        if self.chosen is not None:
            return ""
        if not self.verdicts:
            return "the version has no variant"
        return "; ".join(f"{one.facts.variant}: {', '.join(one.reasons)}" for one in self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaJob:
    """A delta worth building. ``source`` None: from nothing, that is the whole.

    ``methods`` is sorted; with ``memory_limit_bytes`` it is the capability set by which
    deltas are cached.
    """

    target: Digest
    source: Digest | None
    methods: tuple[str, ...]
    memory_limit_bytes: int

    @property
    def order(self) -> tuple[str, str, tuple[str, ...], int]:
        """A total order, so that builds are listed the same way each time."""
        source = "" if self.source is None else str(self.source)
        return (str(self.target), source, self.methods, self.memory_limit_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaOffer:
    """A delta that is built and measured.

    apply_s: measured seconds to apply it on a device such as this one; 0 where not known.
    """

    source: Digest | None
    target: Digest
    delta: Digest
    delta_bytes: int
    decoder_memory_bytes: int
    format_version: int
    methods: frozenset[str]
    apply_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPolicy:
    """What a plan may do. A cap on bytes keeps a metered link from a silent whole download."""

    steps_max: int = 2
    whole_allowed: bool = True
    wire_bytes_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps from what a device holds to a target, in order.

    No step and no reason: the device holds the target. No step and a reason: there is no
    way. Steps and a reason: why it is the whole.
    """

    target: Digest
    steps: tuple[DeltaOffer, ...]
    whole_bytes: int
    reason: str = ""

    @property
    def wire_bytes(self) -> int:
        return sum(step.delta_bytes for step in self.steps)

    @property
    def source(self) -> Digest | None:
        """The held artifact that the first step begins with; None: from nothing."""
        return self.steps[0].source if self.steps else None

    @property
    def feasible(self) -> bool:
        return bool(self.steps) or not self.reason
