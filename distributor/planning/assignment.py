"""A device's next assignment from its last one. Pure.

An assignment is the whole desired state: what is not changed is carried over.
"""

from __future__ import annotations

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


def assign(previous: Assignment, wanted: AssignedModel) -> Assignment:
    """``previous`` with ``wanted`` in place of what was there for its model.

    A version below what was there says so. The very same value comes back unchanged: a device
    is not woken for nothing.
    """
    old = next((one for one in previous.models if one.model == wanted.model), None)
    wanted = replace(wanted, downgrade_from=_downgrade_from(old, wanted.version))
    if wanted == old:
        return previous
    others = [one for one in previous.models if one.model != wanted.model]
    models = tuple(sorted((*others, wanted), key=lambda one: str(one.model)))
    return replace(previous, counter=previous.counter + 1, models=models)


def withdraw(previous: Assignment, model: ModelName) -> Assignment:
    """``previous`` without ``model``: the device unloads it."""
    models = tuple(one for one in previous.models if one.model != model)
    if models == previous.models:
        return previous
    groups = tuple(group for group in previous.groups if model not in group)
    return replace(previous, counter=previous.counter + 1, models=models, groups=groups)


def _downgrade_from(old: AssignedModel | None, version: Version) -> Version | None:
    """A device may have missed what lies between: it goes down from the highest of all."""
    if old is None:
        return None
    highest = old.version if old.downgrade_from is None else old.downgrade_from
    return highest if version < highest else None
