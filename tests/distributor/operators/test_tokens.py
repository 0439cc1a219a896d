"""Tokens live for minutes, allow no more than their operator may, and are kept as digests."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from distributor.operators import Grant, Minted, add_operator, bearer_of, mint, set_grants
from distributor.storage.tables_operators import operator_tokens
from edge_sdk.base import NotFoundError, RefusedError, TrustError, UsageError
from tests.support.catalog import AT_MS, Catalog, open_catalog


def add(catalog: Catalog, name: str, *roles: str) -> None:
    grants = [Grant.parse(one) for one in roles]
    catalog.write(add_operator, name, grants, at_ms=AT_MS, by="root")


def make(catalog: Catalog, *roles: str, life_s: float = 60, at_ms: int = AT_MS) -> Minted:
    grants = [Grant.parse(one) for one in roles]
    return catalog.write(mint, "ada", grants, life_s=life_s, purpose="ci", at_ms=at_ms)


def test_a_token_stands_for_its_operator(tmp_path: Path) -> None:
    """The bearer has the operator's name and the roles asked for; without any, all of them."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "ada", "publisher@team", "viewer")
        bearer = catalog.read(bearer_of, make(catalog, "viewer@team").secret, at_ms=AT_MS)
        assert (bearer.operator, [str(one) for one in bearer.grants]) == ("ada", ["viewer@team"])
        bearer = catalog.read(bearer_of, make(catalog).secret, at_ms=AT_MS)
        assert [str(one) for one in bearer.grants] == ["publisher@team", "viewer"]


def test_the_secret_is_kept_nowhere(tmp_path: Path) -> None:
    """The catalog's files hold the digest, not the secret."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "ada", "viewer")
        secret = make(catalog).secret
        rows = catalog.read(lambda connection: connection.execute(select(operator_tokens)).all())
        assert len(rows) == 1
    for file in tmp_path.iterdir():
        assert secret.encode() not in file.read_bytes()


def test_a_token_ends(tmp_path: Path) -> None:
    """At its time it is worth nothing, and the next one made sweeps it away."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "ada", "viewer")
        made = make(catalog, life_s=60)
        assert made.expires_ms == AT_MS + 60_000
        catalog.read(bearer_of, made.secret, at_ms=made.expires_ms - 1)
        with pytest.raises(TrustError, match="its time is over"):
            catalog.read(bearer_of, made.secret, at_ms=made.expires_ms)
        make(catalog, at_ms=made.expires_ms)
        with pytest.raises(TrustError):
            catalog.read(bearer_of, made.secret, at_ms=AT_MS)


def test_an_unknown_token_is_nobody(tmp_path: Path) -> None:
    """A secret that was never made is refused."""
    with open_catalog(tmp_path) as catalog, pytest.raises(TrustError, match="unknown"):
        catalog.read(bearer_of, "edgeop1.guess", at_ms=AT_MS)


def test_a_token_is_never_more_than_its_operator(tmp_path: Path) -> None:
    """Not when it is made, and not when the operator loses roles afterwards."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "root", "admin")
        add(catalog, "ada", "publisher@team", "viewer")
        for role in ("publisher", "deployer@team", "admin@team"):
            with pytest.raises(RefusedError, match="no more than its operator"):
                make(catalog, role)
        made = make(catalog, "publisher@team", "viewer")
        catalog.write(set_grants, "ada", [Grant.parse("viewer")])
        bearer = catalog.read(bearer_of, made.secret, at_ms=AT_MS)
        assert [str(one) for one in bearer.grants] == ["viewer"]


@pytest.mark.parametrize("life_s", [0.0, -1.0, 86_401.0, float("nan"), float("inf")])
def test_a_token_is_short_lived(tmp_path: Path, life_s: float) -> None:
    """More than a day, no time at all or no number is refused."""
    with open_catalog(tmp_path) as catalog:
        add(catalog, "ada", "viewer")
        with pytest.raises(UsageError, match="up to 24 hours"):
            make(catalog, life_s=life_s)


def test_only_operators_have_tokens(tmp_path: Path) -> None:
    """A name that is no operator gets none."""
    with open_catalog(tmp_path) as catalog, pytest.raises(NotFoundError):
        make(catalog)
