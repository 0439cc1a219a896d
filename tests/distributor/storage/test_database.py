"""Transactions: one writer, whole or not at all, durable."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from distributor.storage import Database, catalog_url
from distributor.storage.tables import artifact_files, blobs
from edge_sdk.base import UnavailableError, UsageError
from tests.support.catalog import files_only, open_catalog, url_of


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(blobs)).scalar_one()


def _add(connection: Connection, name: str) -> None:
    connection.execute(insert(blobs).values(digest=name, size_bytes=1, damaged=False))


@files_only
def test_settings_that_make_commits_durable(tmp_path: Path) -> None:
    """The catalog runs in WAL mode with full sync, foreign keys and a busy timeout."""
    with open_catalog(tmp_path) as catalog, catalog.database.transaction(write=False) as open_one:
        found = {
            name: open_one.execute(text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """An exception in a write undoes all of it."""

    def fail(connection: Connection) -> None:
        _add(connection, "a")
        raise RuntimeError("in the middle")

    with open_catalog(tmp_path) as catalog:
        with pytest.raises(RuntimeError, match="in the middle"):
            catalog.write(fail)
        assert catalog.read(_count) == 0


def test_foreign_keys_are_enforced(tmp_path: Path) -> None:
    """A file of an artifact that is not there cannot be recorded."""
    with open_catalog(tmp_path) as catalog, pytest.raises(IntegrityError):
        catalog.write(
            lambda connection: connection.execute(
                insert(artifact_files).values(artifact="a", path="p", digest="d")
            )
        )


def test_many_writers_take_turns(tmp_path: Path) -> None:
    """Writes asked for at once all succeed, one after the other."""

    async def write_many(database: Database) -> None:
        await asyncio.gather(*(database.write(_add, f"d{number}") for number in range(50)))

    with open_catalog(tmp_path) as catalog:
        asyncio.run(write_many(catalog.database))
        assert catalog.read(_count) == 50


def test_a_cancelled_write_is_whole(tmp_path: Path) -> None:
    """A write whose caller is cancelled happens wholly or not at all, and blocks nobody."""

    async def cancel(database: Database) -> int:
        task = asyncio.create_task(database.write(_add, "a"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await database.write(_add, "b")
        return await database.read(_count)

    with open_catalog(tmp_path) as catalog:
        assert asyncio.run(cancel(catalog.database)) in (1, 2)


def test_a_locked_catalog_is_unavailable(tmp_path: Path) -> None:
    """Where another process holds the write lock, the error says that the catalog is busy."""
    with open_catalog(tmp_path) as catalog:
        other = Database(url_of(tmp_path), busy_timeout_ms=10)
        try:
            with (
                catalog.database.transaction(write=True),
                pytest.raises(UnavailableError, match="busy"),
            ):
                other.transaction(write=True).__enter__()
        finally:
            other.close()


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("", "sqlite:////data/catalog.db"),
        ("sqlite:////elsewhere/catalog.db", "sqlite:////elsewhere/catalog.db"),
        ("postgresql://edge@db.example/fleet", "postgresql+psycopg://edge@db.example/fleet"),
        ("postgresql+psycopg:///fleet?host=/run", "postgresql+psycopg:///fleet?host=%2Frun"),
    ],
)
def test_where_the_catalog_is(setting: str, shown: str) -> None:
    """In a file, unless the setting names a database."""
    assert catalog_url(Path("/data/catalog.db"), setting).render_as_string() == shown


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("postgresql://edge:geheim@db.example/fleet", "pgpass"),
        ("postgresql://edge@db.example/fleet?password=geheim", "pgpass"),
        ("mysql://edge@db.example/fleet", "not in mysql"),
        ("db.example", "is given as"),
    ],
)
def test_a_setting_that_is_no_place_for_a_catalog(setting: str, why: str) -> None:
    """Other databases are refused, and passwords where others see them; none is repeated."""
    with pytest.raises(UsageError, match=why) as refused:
        catalog_url(Path("/data/catalog.db"), setting)
    assert "geheim" not in refused.value.message


def test_writers_of_two_processes_take_turns(tmp_path: Path) -> None:
    """What two databases write at once to one catalog is all there: none reads what the other
    is about to change."""

    def count_up(connection: Connection) -> None:
        number = connection.execute(select(blobs.c.size_bytes)).scalar_one()
        connection.execute(update(blobs).values(size_bytes=number + 1))

    async def both(one: Database, other: Database) -> None:
        await asyncio.gather(*(each.write(count_up) for each in (one, other) for _ in range(25)))

    with open_catalog(tmp_path) as catalog:
        catalog.write(_add, "a")
        other = Database(url_of(tmp_path))
        try:
            asyncio.run(both(catalog.database, other))
        finally:
            other.close()
        total = catalog.read(lambda open_one: open_one.execute(select(blobs)).one().size_bytes)
        assert total == 51


def test_a_read_sees_one_moment(tmp_path: Path) -> None:
    """What is written while somebody reads does not show in the middle of the reading."""
    with open_catalog(tmp_path) as catalog:
        with catalog.database.transaction(write=False) as reading:
            assert _count(reading) == 0
            catalog.write(_add, "a")
            assert _count(reading) == 0
        assert catalog.read(_count) == 1


@files_only
def test_any_path_can_hold_a_catalog(tmp_path: Path) -> None:
    """A folder whose name means something in a URL is a folder all the same."""
    folder = tmp_path / "a?b=c#d %20 e"
    folder.mkdir()
    with open_catalog(folder) as catalog:
        assert catalog.read(_count) == 0
    assert (folder / "catalog.db").stat().st_size > 0
