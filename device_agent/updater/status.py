"""How a model stands, for people, for check-ins and for ``reconcile``. Reads only."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from device_agent.config import AgentConfig
from device_agent.fleet_link import Capabilities, EngineCapability, ModelState
from device_agent.records import Cached, ModelStatus, Unserved
from device_agent.store import Slot, Store
from device_agent.store.journal import Journal
from device_agent.updater.lifecycle import State
from device_agent.updater.reconcile import Standing
from device_agent.updater.update import Update
from edge_sdk.base import Digest, EdgeError
from edge_sdk.delta import FORMAT_VERSION, METHODS
from edge_sdk.manifest import Assignment, Manifest

AGENT_VERSION = "0.1.0"


def standing(
    store: Store,
    journal: Journal,
    model: str,
    *,
    slot: Slot | None,
    working: Update | None,
    assignment: Assignment | None,
) -> Standing:
    """``working`` is the update that goes on, or is to be tried again by itself."""
    active = None if slot is None else slot.active
    previous = None if slot is None else slot.previous
    return Standing(
        model=model,
        active=active,
        active_held=active is not None and store.is_held(active),
        active_blocked=active is not None
        and journal.verdict(model, str(active), attempt(assignment, model, active)) is not None
        and str(previous) not in _newer(journal.spoken_against(model), str(active)),
        previous=previous,
        previous_held=previous is not None and store.is_held(previous),
        on_probation=slot is not None and slot.on_probation,
        working_artifact=None if working is None else working.artifact,
        working_attempt=0 if working is None else working.attempt,
        working_kind="" if working is None else working.kind,
        outcomes=journal.outcomes(model),
    )


def _newer(spoken_against: list[str], artifact: str) -> list[str]:
    """Those with a verdict newer than that on ``artifact``: going back to one of them would
    lead from there straight back here, and so on without end."""
    return spoken_against[spoken_against.index(artifact) + 1 :]


def attempt(assignment: Assignment | None, model: str, artifact: Digest) -> int:
    """The newest order for that artifact; what is not ordered is held to its old verdict."""
    for assigned in assignment.models if assignment is not None else ():
        if str(assigned.model) == model and assigned.artifact == artifact:
            return assigned.attempt
    return 0


def models(
    store: Store,
    updates: Mapping[str, Update],
    *,
    caches: Mapping[str, Cached],
    unserved: Callable[[str, Digest], Unserved | None],
) -> tuple[ModelStatus, ...]:
    """All of this device, by name. ``unserved``: why a slot's artifact does not answer."""
    slots = {slot.model: slot for slot in store.slots()}
    found = []
    for model in sorted({*slots, *updates}):
        slot = slots.get(model)
        why = None if slot is None else unserved(model, slot.active)
        update, cache = updates.get(model), caches.get(model)
        found.append(model_status(store, model, slot, update, cache=cache, unserved=why))
    return tuple(found)


def model_status(
    store: Store,
    model: str,
    slot: Slot | None,
    update: Update | None,
    *,
    cache: Cached | None = None,
    unserved: Unserved | None = None,
) -> ModelStatus:
    """What serves now (not what is wanted), and the update in progress or the one that failed."""
    watching = None if update is None or update.probation is None else update.probation.watching()
    serving = None if slot is None else slot.active
    previous = None if slot is None else slot.previous
    if watching is not None and watching.mode != "switch":
        serving, previous = previous, None  # the slot is ahead: it says what a commit makes true
    active = _manifest(store, serving)
    before = _manifest(store, previous)
    candidate = update if update is not None and update.state is not State.COMMITTED else None
    application = None if update is None else update.application
    described = active or (None if update is None else update.manifest)
    return ModelStatus(
        model=model,
        version="" if active is None else str(active.version),
        variant="" if active is None else active.variant,
        artifact=serving,
        previous_version="" if before is None else str(before.version),
        previous_artifact=previous,
        state=State.COMMITTED.value if update is None else update.state.value,
        candidate_version="" if candidate is None else candidate.version,
        candidate_artifact=None if candidate is None else candidate.artifact,
        done_bytes=0 if application is None else application.done_bytes,
        total_bytes=0 if application is None else application.total_bytes,
        wire_bytes=0 if update is None else update.wire_bytes,
        reason="" if update is None else update.reason,
        message="" if update is None else update.message,
        serve="" if described is None else described.serve,
        cache=cache,
        watching=watching,
        **_serving(store, active, unserved),
    )


def _serving(store: Store, active: Manifest | None, unserved: Unserved | None) -> dict[str, Any]:
    """Whether ``active`` answers requests, and why not. Nothing of what applications run."""
    if active is None or active.serve != "inference":
        return {}
    if unserved is None:
        return {"serves": True}
    instead = _manifest(store, unserved.instead)
    told = "" if instead is None else f"; {instead.version} answers instead"
    return {"unserved_reason": unserved.reason, "unserved_message": unserved.message + told}


def model_state(model: ModelStatus) -> ModelState:
    """The same in short, for a check-in, which names a candidate only while it is under way."""
    ended = model.state in (State.FAILED.value, State.ROLLED_BACK.value)
    return ModelState(
        model=model.model,
        active=model.artifact,
        active_version=model.version,
        state=model.state,
        candidate=None if ended else model.candidate_artifact,
        reason=model.reason,
    )


def capabilities(config: AgentConfig, engines: tuple[EngineCapability, ...]) -> Capabilities:
    """What this release on this device can decode and run."""
    return Capabilities(
        delta_versions=(FORMAT_VERSION,),
        delta_methods=tuple(METHODS),
        decoder_memory_bytes=config.decoder_memory_bytes,
        engines=engines,
        architecture=platform.machine(),
        memory_bytes=config.memory_bytes or psutil.virtual_memory().total,
        accelerators=config.accelerators,
        agent_version=AGENT_VERSION,
    )


def _manifest(store: Store, artifact: Digest | None) -> Manifest | None:
    if artifact is None:
        return None
    try:
        return store.manifest(artifact)
    except EdgeError:
        return None
