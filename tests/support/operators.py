"""Distributors that ask for roles, although names still come as metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from distributor import server
from distributor.operators import Grant, add_operator
from distributor.services import Access
from distributor.storage import Database
from tests.support.catalog import AT_MS, url_of
from tests.support.fleet_server import FleetServer, fleet_server

ROOT = "root"


def add(data: Path, name: str, *roles: str) -> None:
    """Adds an operator behind the distributor's back, as on its own machine."""
    database = Database(url_of(data))
    try:
        with database.transaction(write=True) as connection:
            grants = [Grant.parse(one) for one in roles]
            add_operator(connection, name, grants, at_ms=AT_MS, by="test")
    finally:
        database.close()


def add_all(data: Path, people: dict[str, Sequence[str]]) -> None:
    for name, roles in people.items():
        add(data, name, *roles)


@contextmanager
def strict_server(data: Path, **settings: Any) -> Iterator[FleetServer]:
    """A distributor where a name is believed but its roles count; ``root`` is its admin."""

    def strict(*arguments: Any, **named: Any) -> Access:
        return Access(*arguments, **(named | {"open_to_all": False}))

    with patch.object(server, "Access", strict), fleet_server(data, **settings) as one:
        add(data, ROOT, "admin")
        yield one
