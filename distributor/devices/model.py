"""The values of the device registry. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from distributor.planning.model import DeviceFacts
from edge_sdk.base.digest import Digest
from edge_sdk.base.names import ModelName, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """What a device last said of one model. ``state`` is "committed" at rest."""

    model: ModelName
    active: Digest | None
    active_version: Version | None
    state: str
    candidate: Digest | None = None
    reason: str = ""

    @property
    def settled_on(self) -> Digest | None:
        """The artifact that serves and of which nothing more is to be decided."""
        return self.active if self.state == "committed" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a device did not believe, by its own clock. ``check``: which of its checks said no."""

    at_ms: int
    reason: str
    check: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckIn:
    """One check-in. The labels of ``facts`` are those that the device declares."""

    facts: DeviceFacts
    agent_version: str
    accepted_counter: int
    held: tuple[Digest, ...]
    models: tuple[ModelState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """A device as the registry knows it. The labels of ``facts`` are those in force."""

    facts: DeviceFacts
    agent_version: str
    first_seen_ms: int
    last_seen_ms: int
    accepted_counter: int
    assigned_counter: int
    assignment: bytes | None
    acknowledged_event: int
    held: tuple[Digest, ...]
    models: tuple[ModelState, ...]
    refusal: Refusal | None = None  # the last one, until it took something up

    @property
    def device(self) -> str:
        return self.facts.device

    def model(self, model: ModelName) -> ModelState | None:
        return next((one for one in self.models if one.model == model), None)
