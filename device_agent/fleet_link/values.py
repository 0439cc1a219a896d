"""What the updater says to the fleet and hears from it, as values. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edge_sdk.base.digest import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCapability:
    name: str
    version: str
    ir_version_max: int | None
    opset_max: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What this device can decode and run."""

    delta_versions: tuple[int, ...]
    delta_methods: tuple[str, ...]
    decoder_memory_bytes: int
    engines: tuple[EngineCapability, ...]
    architecture: str
    memory_bytes: int
    accelerators: tuple[str, ...]
    agent_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """One model in a check-in."""

    model: str
    active: Digest | None
    active_version: str
    state: str
    candidate: Digest | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedIn:
    """``assignment``: the bytes of the document, None where there is nothing newer."""

    assignment: bytes | None
    next_check_in_s: float
    renew_certificate: bool = False  # by the distributor's clock it is time


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken:
    """Something changed for this device; ``reconnect_s`` where the server says goodbye."""

    assignment_counter: int
    reconnect_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStep:
    """One delta to fetch and apply; ``source`` None: from nothing."""

    source: Digest | None
    target: Digest
    delta: Digest
    delta_bytes: int
    decoder_memory_bytes: int
    target_manifest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One numbered event."""

    number: int
    at_ms: int
    model: str
    version: str
    artifact: Digest | None
    rollout: str
    attempt: int
    state: str
    reason: str
    message: str
    facts: Mapping[str, str] = field(default_factory=dict)
