"""Nobody takes the last admin away who can log in: there would be no way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor import identity, operators
from distributor.operators import Grant
from distributor.services.identities import check_admin_left
from edge_sdk.base import RefusedError
from tests.support.catalog import AT_MS, Catalog, open_catalog
from tests.support.thrown_out import enrol


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with open_catalog(tmp_path) as one:
        yield one


def add(catalog: Catalog, name: str, role: str = "admin") -> None:
    catalog.write(operators.add_operator, name, [Grant.parse(role)], at_ms=AT_MS, by="test")


def is_left(catalog: Catalog, *, by_token: bool) -> bool:
    try:
        catalog.read(check_admin_left, by_token=by_token)
    except RefusedError:
        return False
    return True


def test_who_counts_as_an_admin_that_is_left(catalog: Catalog) -> None:
    """An admin of everything whose key is good; who has none yet (or another authority's)
    counts for people, and not for a pipeline's token."""
    add(catalog, "vic", "viewer")
    add(catalog, "tim", "admin@team")
    for name in ("vic", "tim"):
        enrol(catalog, name, kind="operator")
    assert not is_left(catalog, by_token=False)
    add(catalog, "ann")
    assert is_left(catalog, by_token=False)
    assert not is_left(catalog, by_token=True)
    enrol(catalog, "ann", kind="operator")
    assert is_left(catalog, by_token=True)
    catalog.write(identity.revoke, "operator", "ann", "stolen", at_ms=AT_MS)
    assert not is_left(catalog, by_token=False)
