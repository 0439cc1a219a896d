"""Migrations build exactly the tables of this release."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from distributor.storage import Database, schema_version, upgrade
from distributor.storage.tables import METADATA
from edge_sdk.base import RefusedError
from edge_sdk.manifest import decode_assignment
from tests.support.catalog import open_catalog, url_of


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "distributor.storage:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


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
    database = Database(url_of(tmp_path))
    try:
        with pytest.raises(RuntimeError), database.transaction(write=True) as connection:
            METADATA.create_all(connection)
            raise RuntimeError("power cut")
        with database.transaction(write=False) as connection:
            assert inspect(connection).get_table_names() == []
        upgrade(database)
    finally:
        database.close()


def test_going_back_leaves_nothing(tmp_path: Path) -> None:
    """Each migration can be undone: down to the base no table of ours is left, and up again
    all are there."""
    with open_catalog(tmp_path) as catalog:
        with catalog.database.transaction(write=True) as connection:
            command.downgrade(_config(connection), "base")
        with catalog.database.transaction(write=False) as connection:
            assert set(inspect(connection).get_table_names()) == {"alembic_version"}
        upgrade(catalog.database)
        with catalog.database.transaction(write=False) as connection:
            assert set(METADATA.tables) <= set(inspect(connection).get_table_names())


def test_assignments_of_the_first_release_are_read(tmp_path: Path) -> None:
    """What was assigned before an upgrade is still assigned after it, with the same number."""
    before = (
        '{"counter":7,"device":"d","expires_s":null,"models":[{"artifact":"'
        f'{"ab" * 32}","attempt":1,"floor":null,"model":"team/digits","rollout":"r",'
        '"variant":"fp32","version":"1.0.0"}],"schema":1}'
    )
    database = Database(url_of(tmp_path))
    try:
        with database.transaction(write=True) as connection:
            command.upgrade(_config(connection), "v0001")
            connection.execute(
                text(
                    "INSERT INTO devices (device, declared_labels, operator_labels, capabilities, "
                    "first_seen_ms, last_seen_ms, agent_version, accepted_counter, "
                    "assigned_counter, acknowledged_event, assignment) "
                    "VALUES ('d', '{}', '{}', '{}', 0, 0, '', 0, 7, 0, :document)"
                ),
                {"document": before.encode()},
            )
        upgrade(database)
        with database.transaction(write=False) as connection:
            after = connection.execute(text("SELECT assignment FROM devices")).scalar_one()
    finally:
        database.close()
    assignment = decode_assignment(after)
    assert assignment.counter == 7
    assert assignment.models[0].downgrade_from is None
    assert assignment.groups == ()


def test_rows_of_rollouts_name_their_model(tmp_path: Path) -> None:
    """Rows of a rollout of the release before are about its one model; going back to that
    release keeps of each group the first model's rows."""
    database = Database(url_of(tmp_path))
    rows = "SELECT rollout, device, state FROM rollout_devices ORDER BY rollout, state"
    try:
        with database.transaction(write=True) as connection:
            command.upgrade(_config(connection), "v0003")
            for statement in _A_ROLLOUT:
                connection.execute(text(statement))
        upgrade(database)
        with database.transaction(write=True) as connection:
            assert connection.execute(
                text("SELECT model FROM rollout_devices")
            ).scalars().all() == ["team/digits"]
            connection.execute(
                text(
                    "INSERT INTO rollout_devices SELECT rollout, device, artifact, version, "
                    "variant, attempt, 'failed', reason, message, counter, event, wire_bytes, "
                    "whole_bytes, changed_ms, facts, previous, 'team/letters' FROM rollout_devices"
                )
            )
            assert len(connection.execute(text(rows)).all()) == 2
        with database.transaction(write=True) as connection:
            command.downgrade(_config(connection), "v0003")
            assert connection.execute(text(rows)).all() == [("r1", "d", "committed")]
    finally:
        database.close()


_A_ROLLOUT = (
    "INSERT INTO devices (device, declared_labels, operator_labels, capabilities, first_seen_ms, "
    "last_seen_ms, agent_version, accepted_counter, assigned_counter, acknowledged_event) "
    "VALUES ('d', '{}', '{}', '{}', 0, 0, '', 0, 0, 0)",
    "INSERT INTO rollouts (rollout, number, model, version, cohort_devices, cohort_selector, "
    "state, reason, retry, undoes, created_ms, created_by, deltas_done, deltas_total) "
    "VALUES ('r1', 1, 'team/digits', '1.0.0', '[]', '', 'done', '', false, '', 0, 'alice', 0, 0)",
    "INSERT INTO rollout_devices (rollout, device, version, variant, attempt, state, reason, "
    "message, counter, event, wire_bytes, whole_bytes, changed_ms, facts) "
    "VALUES ('r1', 'd', '1.0.0', 'fp32', 1, 'committed', '', '', 1, 0, 0, 0, 0, '{}')",
)
