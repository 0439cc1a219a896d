"""What should happen next, from facts alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from device_agent.updater.reconcile import (
    Begin,
    GoBack,
    Order,
    Remove,
    Repair,
    SayBlocked,
    SayCommitted,
    Standing,
    Stop,
    key,
    reconcile,
)
from edge_sdk.base import Digest, ModelName, Version
from edge_sdk.manifest import AssignedModel, Assignment

A, B, C = (Digest.of(name) for name in (b"a", b"b", b"c"))
MODEL = "team/digits"


def assigned(artifact: Digest, attempt: int = 1, rollout: str = "r") -> AssignedModel:
    return AssignedModel(
        model=ModelName.parse(MODEL),
        version=Version.parse("1.0.0"),
        variant="fp32",
        artifact=artifact,
        floor=None,
        rollout=rollout,
        attempt=attempt,
    )


def orders(
    wanted: AssignedModel | None, *, blocked: bool = False, **here: object
) -> Sequence[Order]:
    models = () if wanted is None else (wanted,)
    assignment = Assignment(device="d", counter=1, models=models, expires_s=None)
    standings: Mapping[str, Standing] = (
        {MODEL: Standing(model=MODEL, **here)} if here else {}  # type: ignore[arg-type]
    )
    return list(reconcile(assignment, standings, lambda one: blocked))


WANTED = assigned(B)


@pytest.mark.parametrize(
    ("here", "blocked", "wanted"),
    [
        ({}, False, Begin(assigned=WANTED)),
        ({"active": A}, False, Begin(assigned=WANTED)),
        ({"active": B}, False, SayCommitted(assigned=WANTED)),
        ({"active": B, "outcomes": {key(WANTED): "committed"}}, False, None),
        ({"active": B, "active_held": False}, False, Repair(model=MODEL, artifact=B)),
        ({"active": B, "active_held": False, "working_kind": "repair"}, False, None),
        ({"active": B, "working_kind": "update", "working_artifact": C}, False, Stop(model=MODEL)),
        (
            {"active": A, "working_kind": "update", "working_artifact": B, "working_attempt": 1},
            False,
            None,
        ),
        (
            {"active": A, "working_kind": "update", "working_artifact": B, "working_attempt": 0},
            False,
            Begin(assigned=WANTED),
        ),
        (
            {"active": A, "working_kind": "update", "working_artifact": C, "working_attempt": 1},
            False,
            Begin(assigned=WANTED),
        ),
        ({"active": A, "working_kind": "return", "working_artifact": C}, False, None),
        ({"active": B, "on_probation": True}, False, Begin(assigned=WANTED)),
        ({"active": A}, True, SayBlocked(assigned=WANTED)),
        ({"active": A, "outcomes": {key(WANTED): "failed"}}, True, None),
        ({"active": A, "working_kind": "return"}, True, None),
        ({"active": A, "active_held": False}, True, Repair(model=MODEL, artifact=A)),
        (
            {"active": B, "active_blocked": True, "previous": A, "previous_held": True},
            True,
            GoBack(model=MODEL, artifact=A),
        ),
        (
            {"active": B, "active_blocked": True, "outcomes": {key(WANTED): "rolled_back"}},
            True,
            None,
        ),
    ],
)
def test_one_model(here: dict[str, object], blocked: bool, wanted: Order | None) -> None:
    """Each standing leads to exactly the order that it needs."""
    assert orders(WANTED, blocked=blocked, **here) == ([] if wanted is None else [wanted])


def test_what_is_not_assigned_is_removed() -> None:
    """Absent means unloaded."""
    assert orders(None, active=A) == [Remove(model=MODEL)]


def test_without_an_assignment_nothing_is_removed() -> None:
    """A device that was never told anything keeps, repairs and goes back by itself."""
    kept = {MODEL: Standing(model=MODEL, active=A)}
    assert reconcile(None, kept, lambda one: False) == []
    rotten = {MODEL: Standing(model=MODEL, active=A, active_held=False)}
    assert reconcile(None, rotten, lambda one: False) == [Repair(model=MODEL, artifact=A)]


def test_carrying_out_an_order_ends_it() -> None:
    """After a committed update nothing more is ordered: no loop (28)."""
    done = {"active": B, "previous": A, "outcomes": {key(WANTED): "committed"}}
    assert orders(WANTED, **done) == []
