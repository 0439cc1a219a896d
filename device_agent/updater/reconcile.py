"""What has to happen so that this device runs what it was assigned. Pure: facts in, orders out.

Asked after every assignment, after every end of an update, and after every start: the answer
follows from what is held and what is remembered, not from how it came to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_sdk.base.digest import Digest
from edge_sdk.manifest.model import AssignedModel, Assignment

Key = tuple[str, int, str]  # artifact, attempt, rollout


def key(assigned: AssignedModel) -> Key:
    return (str(assigned.artifact), assigned.attempt, assigned.rollout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One model here. ``active_held``: all files of the active artifact are there.

    The working fields describe the update under way; ``outcomes`` are the ends that were
    reported, by what was ordered.
    """

    model: str
    active: Digest | None = None
    active_held: bool = True
    active_blocked: bool = False  # a verdict here, newer than any on the previous, is against it
    previous: Digest | None = None
    previous_held: bool = False
    on_probation: bool = False
    working_artifact: Digest | None = None
    working_attempt: int = 0
    working_kind: str = ""
    outcomes: Mapping[Key, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Bring this artifact here (stopping what is under way for the model)."""

    assigned: AssignedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Files of the active artifact are missing or rotten: bring them again."""

    model: str
    artifact: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBack:
    """The active artifact is spoken against; the previous one is here."""

    model: str
    artifact: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """No longer assigned."""

    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SayCommitted:
    """The artifact wanted runs already; whoever ordered it again is to be told."""

    assigned: AssignedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class SayBlocked:
    """The artifact wanted failed here before; only a higher attempt lifts that."""

    assigned: AssignedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What is wanted runs; what is under way for the model leads elsewhere."""

    model: str


Order = Begin | Repair | GoBack | Remove | SayCommitted | SayBlocked | Stop


def reconcile(
    assignment: Assignment | None,
    standings: Mapping[str, Standing],
    is_blocked: Callable[[AssignedModel], bool],
) -> Sequence[Order]:
    """Orders, at most one for each model. Without an assignment nothing is removed."""
    wanted = {str(one.model): one for one in assignment.models} if assignment else {}
    orders: list[Order] = []
    for model, assigned in wanted.items():
        order = _for_assigned(
            assigned, standings.get(model, Standing(model=model)), blocked=is_blocked(assigned)
        )
        if order is not None:
            orders.append(order)
    for model, standing in standings.items():
        if model in wanted:
            continue
        if assignment is not None:
            orders.append(Remove(model=model))
        elif standing.active is not None and not standing.working_kind:
            kept = _keep_running(standing)
            if kept is not None:
                orders.append(kept)
    return orders


def _for_assigned(assigned: AssignedModel, here: Standing, *, blocked: bool) -> Order | None:
    if here.active == assigned.artifact and not here.on_probation and not blocked:
        if here.working_kind in ("repair", "return"):
            return None
        if not here.active_held:
            return Repair(model=here.model, artifact=assigned.artifact)
        if here.working_kind:
            return Stop(model=here.model)
        if here.outcomes.get(key(assigned)) == "committed":
            return None
        return SayCommitted(assigned=assigned)
    if here.working_kind == "update" and not blocked:
        same = here.working_artifact == assigned.artifact
        if same and here.working_attempt == assigned.attempt:
            return None
        return Begin(assigned=assigned)
    if blocked:
        return _despite_blocked(assigned, here)
    if here.working_kind == "return":
        return None
    return Begin(assigned=assigned)


def _despite_blocked(assigned: AssignedModel, here: Standing) -> Order | None:
    if here.working_kind:
        return None
    kept = _keep_running(here)
    if kept is not None:
        return kept
    if here.outcomes.get(key(assigned)) in ("failed", "rolled_back"):
        return None
    return SayBlocked(assigned=assigned)


def _keep_running(here: Standing) -> Order | None:
    """What serves should be whole, and not be one that was spoken against."""
    if here.active is None or here.on_probation:
        return None
    if here.active_blocked and here.previous is not None and here.previous_held:
        return GoBack(model=here.model, artifact=here.previous)
    if not here.active_held:
        return Repair(model=here.model, artifact=here.active)
    return None
