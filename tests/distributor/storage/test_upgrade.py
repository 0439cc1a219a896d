"""Migrations build exactly the tables of this release."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from distributor.storage import Database, schema_version, sqlite_url, upgrade
from distributor.storage.tables import METADATA
from edge_sdk.base import RefusedError
from tests.support.catalog import open_catalog


def test_migrations_make_the_tables(tmp_path: Path) -> None:
    """After every migration the catalog differs in nothing from the tables in the code."""
    with open_catalog(tmp_path) as catalog, catalog.database.transaction(write=False) as open_one:
        context = MigrationContext.configure(open_one, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_upgrading_twice_changes_nothing(tmp_path: Path) -> None:
    """A second upgrade finds the catalog at the newest revision and leaves it there."""
    with open_catalog(tmp_path) as catalog:
        has, wanted = schema_version(catalog.database)
        upgrade(catalog.database)
        assert has == wanted == schema_version(catalog.database)[0]


def test_a_catalog_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """A revision that this release does not know ends in an error that says so."""
    with open_catalog(tmp_path) as catalog:
        catalog.write(
            lambda connection: connection.execute(
                text("UPDATE alembic_version SET version_num = 'v9999'")
            )
        )
        with pytest.raises(RefusedError, match="newer release"):
            upgrade(catalog.database)


def test_a_migration_that_fails_leaves_no_table(tmp_path: Path) -> None:
    """Tables appear all at once: a crash in the middle of the first start leaves an empty file."""
    database = Database(sqlite_url(tmp_path / "catalog.db"))
    try:
        with pytest.raises(RuntimeError), database.transaction(write=True) as connection:
            METADATA.create_all(connection)
            raise RuntimeError("power cut")
        with database.transaction(write=False) as connection:
            tables = connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one()
        assert tables == 0
        upgrade(database)
    finally:
        database.close()


def test_going_back_leaves_nothing(tmp_path: Path) -> None:
    """Each migration can be undone: down to the base no table of ours is left, and up again
    all are there."""
    config = Config()
    config.set_main_option("script_location", "distributor.storage:migrations")
    config.set_main_option("path_separator", "os")
    with open_catalog(tmp_path) as catalog:
        with catalog.database.transaction(write=True) as connection:
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
        with catalog.database.transaction(write=False) as connection:
            assert set(inspect(connection).get_table_names()) == {"alembic_version"}
        upgrade(catalog.database)
        with catalog.database.transaction(write=False) as connection:
            assert set(METADATA.tables) <= set(inspect(connection).get_table_names())
