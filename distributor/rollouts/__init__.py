"""Bringing a version to a cohort: who gets what, numbered assignments, and how far each device is.

Functions over a connection. Everything is in the database: a restart strands nothing.
"""

from distributor.rollouts.allowed import check_allowed
from distributor.rollouts.assignments import newer_assignment, read_assignment
from distributor.rollouts.events import settle, store_events
from distributor.rollouts.model import (
    FINAL_STATES,
    Cohort,
    Rollout,
    RolloutDevice,
    RolloutRequest,
    Touched,
)
from distributor.rollouts.orders import (
    abort,
    assign_built,
    choose_devices,
    create,
    resolve_for,
    undo,
)
from distributor.rollouts.progress import DeviceEvent
from distributor.rollouts.records import (
    get_rollout,
    list_rollouts,
    model_of,
    newest_targets,
    note_built,
    under_way,
    unfinished_builds,
)

__all__ = [
    "FINAL_STATES",
    "Cohort",
    "DeviceEvent",
    "Rollout",
    "RolloutDevice",
    "RolloutRequest",
    "Touched",
    "abort",
    "assign_built",
    "check_allowed",
    "choose_devices",
    "create",
    "get_rollout",
    "list_rollouts",
    "model_of",
    "newer_assignment",
    "newest_targets",
    "note_built",
    "read_assignment",
    "resolve_for",
    "settle",
    "store_events",
    "under_way",
    "undo",
    "unfinished_builds",
]
