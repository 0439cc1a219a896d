"""Bringing a version to a cohort: who gets what, numbered assignments, and how far each device is.

Functions over a connection. Everything is in the database: a restart strands nothing.
"""

from distributor.rollouts.allowed import check_allowed
from distributor.rollouts.assignments import newer_assignment, read_assignment
from distributor.rollouts.events import settle, store_events
from distributor.rollouts.leaving import leave, leave_all
from distributor.rollouts.model import (
    FINAL_STATES,
    Cohort,
    Rollout,
    RolloutDevice,
    RolloutRequest,
    RowKey,
    Touched,
)
from distributor.rollouts.orders import (
    abort,
    assign_built,
    choose_devices,
    create,
    undo,
    variants_wanted,
)
from distributor.rollouts.progress import DeviceEvent
from distributor.rollouts.records import (
    get_rollout,
    list_rollouts,
    models_of,
    newest_targets,
    note_built,
    under_way,
    unfinished_builds,
)
from distributor.rollouts.together import (
    all_or_none,
    because_of,
    resolve_for,
    resolve_together,
)

__all__ = [
    "FINAL_STATES",
    "Cohort",
    "DeviceEvent",
    "Rollout",
    "RolloutDevice",
    "RolloutRequest",
    "RowKey",
    "Touched",
    "abort",
    "all_or_none",
    "assign_built",
    "because_of",
    "check_allowed",
    "choose_devices",
    "create",
    "get_rollout",
    "leave",
    "leave_all",
    "list_rollouts",
    "models_of",
    "newer_assignment",
    "newest_targets",
    "note_built",
    "read_assignment",
    "resolve_for",
    "resolve_together",
    "settle",
    "store_events",
    "under_way",
    "undo",
    "unfinished_builds",
    "variants_wanted",
]
