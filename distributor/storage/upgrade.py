"""Brings the catalog's tables to this release, by the migrations packaged here."""

from __future__ import annotations

import contextlib
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError

from distributor.storage.database import Database
from distributor.storage.elsewhere import catalog_of, remember_catalog
from distributor.storage.folder import DataFolder
from edge_sdk.base import RefusedError


def initialise(root: Path, database_setting: str = "") -> bool:
    """Makes the data folder and its catalog, or brings them to this release.

    database_setting: where the catalog is; empty: in the folder.

    False where they were there already. Raises: ConflictError, UsageError, ResourceError.
    """
    folder = DataFolder(root)
    url = catalog_of(folder, database_setting)
    created = folder.create()
    with folder.discarded_on_failure() if created else contextlib.nullcontext(), folder.owned():
        database = Database(url)
        try:
            upgrade(database)
        finally:
            database.close()
        remember_catalog(folder, url)
    return created


def upgrade(database: Database) -> None:
    """Runs the migrations that are missing, in one transaction. Doing it twice does nothing.

    Raises: RefusedError (the catalog was written by a newer release).
    """
    config = _config()
    with database.transaction(write=True) as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise RefusedError(
                f"the catalog was written by a newer release of the distributor ({error}); "
                "start that one"
            ) from None


def schema_version(database: Database) -> tuple[str | None, str | None]:
    """The revision that the catalog has, and the one that this release wants."""
    with database.transaction(write=False) as connection:
        has = MigrationContext.configure(connection).get_current_revision()
    return has, ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "distributor.storage:migrations")
    config.set_main_option("path_separator", "os")
    return config
