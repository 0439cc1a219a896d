"""What a role includes, and where."""

from __future__ import annotations

import pytest

from distributor.operators import (
    ADMIN,
    DEPLOYER,
    EVERYWHERE,
    PUBLISHER,
    ROLES,
    VIEWER,
    Grant,
    within,
)
from edge_sdk.base import FormatError, UsageError


def test_a_grant_is_text() -> None:
    """A role everywhere is its name, one in a namespace has it behind an at sign."""
    for text in ("admin", "viewer@team", "publisher@a-b"):
        assert str(Grant.parse(text)) == text
    assert Grant.parse("viewer@*") == Grant(role=VIEWER, namespace=EVERYWHERE)


@pytest.mark.parametrize("text", ["", "root", "Admin", "viewer ", "@team"])
def test_an_unknown_role_is_refused(text: str) -> None:
    """Only the four roles exist."""
    with pytest.raises(UsageError, match="is no role"):
        Grant.parse(text)


@pytest.mark.parametrize("text", ["viewer@", "viewer@a/b", "viewer@Team", "viewer@a@b"])
def test_a_namespace_is_a_name(text: str) -> None:
    """What no model can have as namespace is refused; an empty one is not everywhere."""
    with pytest.raises(FormatError):
        Grant.parse(text)


@pytest.mark.parametrize(
    ("role", "included"),
    [
        (VIEWER, {VIEWER}),
        (PUBLISHER, {VIEWER, PUBLISHER}),
        (DEPLOYER, {VIEWER, DEPLOYER}),
        (ADMIN, set(ROLES)),
    ],
)
def test_what_a_role_includes(role: str, included: set[str]) -> None:
    """Publisher and deployer include viewer but not each other; admin includes all."""
    grant = Grant(role=role)
    assert {one for one in ROLES if grant.gives(one, "team")} == included


def test_a_role_in_a_namespace_ends_there() -> None:
    """It holds in its namespace, not in another and not everywhere."""
    grant = Grant.parse("admin@team")
    assert grant.gives(VIEWER, "team")
    assert grant.gives(VIEWER, None)
    assert not grant.gives(VIEWER, "other")
    assert not grant.gives(VIEWER, EVERYWHERE)


@pytest.mark.parametrize(
    ("grants", "limits", "holds"),
    [
        (["viewer@team"], ["viewer"], True),
        (["viewer"], ["viewer@team"], False),
        (["publisher@team"], ["admin@team"], True),
        (["publisher@team", "deployer@team"], ["publisher@team"], False),
        (["deployer@team"], ["publisher@team", "deployer@team"], True),
        ([], [], True),
        (["viewer@team"], [], False),
    ],
)
def test_what_lies_within(grants: list[str], limits: list[str], holds: bool) -> None:
    """Nothing may go beyond in role or in namespace."""
    parsed = [[Grant.parse(one) for one in texts] for texts in (grants, limits)]
    assert within(*parsed) is holds
