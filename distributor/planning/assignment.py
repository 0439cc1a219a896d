"""A device's next assignment from its last one. Pure.

An assignment is the whole desired state: what is not changed is carried over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from distributor.planning.model import ArtifactFacts
from edge_sdk.base.names import ModelName, Version
from edge_sdk.manifest.model import AssignedModel, Assignment


def empty_assignment(device: str) -> Assignment:
    """What a device should run before anybody ordered anything; never sent."""
    return Assignment(device=device, counter=0, models=(), expires_s=None)


def order(
    target: ArtifactFacts, *, rollout: str, attempts_before: int, retry: bool
) -> AssignedModel:
    """One model of an assignment.

    attempts_before: how often this artifact was ordered for this device before; 0: never.
    The number grows only where the operator says so (``retry``): a device that remembers a
    failed trial does not try again on the same number.
    """
    attempt = attempts_before + 1 if retry or attempts_before == 0 else attempts_before
    return AssignedModel(
        model=target.model,
        version=target.version,
        variant=target.variant,
        artifact=target.artifact,
        floor=None,
        rollout=rollout,
        attempt=attempt,
    )


def change(
    previous: Assignment,
    wanted: Mapping[ModelName, AssignedModel | None],
    *,
    has_arrived: Callable[[Sequence[ModelName]], bool],
    highest: Mapping[ModelName, Version] | None = None,
) -> Assignment:
    """``previous`` with ``wanted`` in place of what was there for those models; None: the model
    is absent, so that the device unloads it.

    Several models are a group from now on. A group of which only some change stays, with them,
    until ``has_arrived`` says that the device runs all of it: then they are free again.

    A version below what was there says so; ``highest`` has what came to the device before a
    model was taken away, which the device may have missed. The very same value comes back
    unchanged: a device is not woken for nothing.
    """
    models = {one.model: one for one in previous.models}
    for model, one in wanted.items():
        old = models.pop(model, None)
        if one is not None:
            before = (highest or {}).get(model) if old is None else _highest(old)
            lower = before is not None and one.version < before
            models[model] = replace(one, downgrade_from=before if lower else None)
    groups = _regroup(previous.groups, frozenset(wanted), frozenset(models), has_arrived)
    ordered = tuple(sorted(models.values(), key=lambda one: str(one.model)))
    if (ordered, groups) == (previous.models, previous.groups):
        return previous
    return replace(previous, counter=previous.counter + 1, models=ordered, groups=groups)


def _regroup(
    groups: Iterable[tuple[ModelName, ...]],
    changed: frozenset[ModelName],
    present: frozenset[ModelName],
    has_arrived: Callable[[Sequence[ModelName]], bool],
) -> tuple[tuple[ModelName, ...], ...]:
    together = set(changed)
    after = []
    for group in groups:
        if changed.isdisjoint(group):
            after.append(group)
        elif not has_arrived(group):
            together |= set(group)
    together &= present
    if len(together) > 1:
        after.append(tuple(sorted(together)))
    return tuple(sorted(after))


def _highest(old: AssignedModel) -> Version:
    """A device may have missed what lies between: it goes down from the highest of all."""
    return old.version if old.downgrade_from is None else old.downgrade_from
