"""The tables work on PostgreSQL as well as on SQLite."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateTable

from distributor.storage.tables import METADATA


def test_each_table_can_be_made_on_both() -> None:
    """Every table compiles for SQLite and for PostgreSQL."""
    for table in METADATA.sorted_tables:
        for dialect in (sqlite.dialect(), postgresql.dialect()):
            assert table.name in str(CreateTable(table).compile(dialect=dialect))


def test_strings_in_keys_are_bounded() -> None:
    """Text that is indexed has a length, so that no index row grows without bound."""
    for table in METADATA.sorted_tables:
        for column in table.primary_key.columns:
            if isinstance(column.type, String) and column.name != "path":
                assert column.type.length, f"{table.name}.{column.name}"
