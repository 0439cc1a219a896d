"""Operators come, change and go; an admin is always left."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.operators import (
    Grant,
    add_operator,
    find_operator,
    list_operators,
    mint,
    remove_operator,
    set_grants,
)
from edge_sdk.base import ConflictError, FormatError, NotFoundError, RefusedError
from tests.support.catalog import AT_MS, Catalog, open_catalog

ADMIN = [Grant(role="admin")]


def add(catalog: Catalog, name: str, *roles: str) -> None:
    grants = [Grant.parse(one) for one in roles]
    catalog.write(add_operator, name, grants, at_ms=AT_MS, by="root")


def roles_of(catalog: Catalog, name: str) -> list[str]:
    return [str(one) for one in catalog.read(find_operator, name).grants]


def test_an_operator_has_what_was_given(tmp_path: Path) -> None:
    """Name, roles and who added it come back; roles said twice count once."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "ada", "viewer", "publisher@team", "viewer")
        one = catalog.read(find_operator, "ada")
        assert (one.name, one.added_ms, one.added_by) == ("ada", AT_MS, "root")
        assert roles_of(catalog, "ada") == ["publisher@team", "viewer"]


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    """Adding somebody again is a conflict, and changes nothing."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "ada", "viewer")
        with pytest.raises(ConflictError):
            add(catalog, "ada", "admin")
        assert roles_of(catalog, "ada") == ["viewer"]
        with pytest.raises(FormatError):
            add(catalog, "not a name", "viewer")


def test_roles_are_replaced(tmp_path: Path) -> None:
    """New roles take the place of all the old ones."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "root", "admin")
        add(catalog, "ada", "viewer", "publisher@team")
        catalog.write(set_grants, "ada", [Grant.parse("deployer")])
        assert roles_of(catalog, "ada") == ["deployer"]
        with pytest.raises(NotFoundError):
            catalog.write(set_grants, "bob", ADMIN)


def test_who_is_removed_is_gone(tmp_path: Path) -> None:
    """With roles and tokens; the others stay."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "root", "admin")
        add(catalog, "ada", "viewer")
        catalog.write(mint, "ada", [], life_s=60, purpose="", at_ms=AT_MS)
        catalog.write(remove_operator, "ada")
        assert [one.name for one in catalog.read(list_operators)] == ["root"]
        with pytest.raises(NotFoundError):
            catalog.read(find_operator, "ada")


def test_the_last_admin_stays(tmp_path: Path) -> None:
    """Neither removed nor given other roles: nobody could undo it from outside."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "root", "admin")
        add(catalog, "ada", "admin@team")
        for change in (
            lambda: catalog.write(remove_operator, "root"),
            lambda: catalog.write(set_grants, "root", [Grant.parse("viewer")]),
        ):
            with pytest.raises(RefusedError, match="nobody would be admin"):
                change()
        assert roles_of(catalog, "root") == ["admin"]
