"""Acts become entries in the transaction of the change, and stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from distributor.audit import Act, append, entries, log_state, recorded
from distributor.devices import label_device
from distributor.storage import Database, upgrade
from edge_sdk.audit import Chain, decode_entry
from edge_sdk.base import Digest, NotFoundError
from tests.support.catalog import AT_MS, Catalog, open_catalog, url_of


def act(number: int = 1) -> Act:
    return Act(
        at_ms=AT_MS,
        kind="operator",
        actor="alice",
        role="deployer",
        via="certificate",
        action="device.label",
        object=f"gate-{number}",
        request=Digest.of(b"request"),
        facts={"site": "berlin"},
    )


def documents(catalog: Catalog) -> list[bytes]:
    return catalog.read(entries, after=0, until=1 << 40, limit=1000)


def test_entries_form_a_chain(tmp_path: Path) -> None:
    """What was appended comes back in order, in a chain that ends where the log says."""
    with open_catalog(tmp_path) as catalog:
        assert [catalog.write(append, act(number)) for number in (1, 2, 3)] == [1, 2, 3]
        end = catalog.read(log_state)
        chain = Chain(end.origin)
        seen = [chain.follow(document) for document in documents(catalog)]
        assert [one.object for one in seen] == ["gate-1", "gate-2", "gate-3"]
        assert (chain.size, chain.head) == (end.size, end.head)
        assert seen[0].request == str(Digest.of(b"request"))


def test_pages_begin_and_end_where_asked(tmp_path: Path) -> None:
    """A part of the log comes as asked: after one number, until another, so many at most."""
    with open_catalog(tmp_path) as catalog:
        for number in range(5):
            catalog.write(append, act(number))
        numbers = [
            decode_entry(document).number
            for document in catalog.read(entries, after=1, until=4, limit=2)
        ]
        assert numbers == [2, 3]
        assert len(catalog.read(entries, after=3, until=4, limit=9)) == 1


def test_a_change_and_its_entry_come_together(tmp_path: Path) -> None:
    """The label and the entry are there after one transaction."""
    with open_catalog(tmp_path) as catalog:
        catalog.check_in("gate-1")
        catalog.write(recorded(label_device, act()), "gate-1", put={"site": "berlin"}, remove=())
        assert [decode_entry(one).action for one in documents(catalog)] == ["device.label"]


def test_a_change_that_fails_has_no_entry(tmp_path: Path) -> None:
    """What is refused leaves no entry behind, and no gap."""
    with open_catalog(tmp_path) as catalog:
        with pytest.raises(NotFoundError):
            catalog.write(recorded(label_device, act()), "nobody", put={}, remove=())
        assert catalog.read(log_state).size == 0


def test_an_entry_that_fails_takes_its_change_back(tmp_path: Path) -> None:
    """Where the log cannot be written, the change does not happen either."""

    def refuse(_: object) -> Act:
        raise RuntimeError("no room for an entry")

    with open_catalog(tmp_path) as catalog:
        catalog.check_in("gate-1")
        with pytest.raises(RuntimeError):
            catalog.write(recorded(label_device, refuse), "gate-1", put={"a": "b"}, remove=())
        record = catalog.check_in("gate-1")
        assert dict(record.facts.labels) == {}


def test_nothing_changed_is_no_entry(tmp_path: Path) -> None:
    """A call that changed nothing (published already) leaves no entry."""
    with open_catalog(tmp_path) as catalog:
        catalog.check_in("gate-1")
        quiet = recorded(label_device, lambda _: None)
        catalog.write(quiet, "gate-1", put={}, remove=())
        assert documents(catalog) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET document = document WHERE number = 1",
        "DELETE FROM audit_entries WHERE number = 1",
        "DELETE FROM audit_log",
        "UPDATE audit_log SET size = 0",
        "UPDATE audit_log SET origin = 'other', size = size + 1",
        "UPDATE audit_heads SET note = ''",
        "DELETE FROM audit_heads",
    ],
)
def test_the_database_itself_refuses_changes(tmp_path: Path, statement: str) -> None:
    """Rows of the log can neither be changed nor removed, whoever runs the statement."""
    with open_catalog(tmp_path) as catalog:
        catalog.write(append, act())
        insert_head = "INSERT INTO audit_heads (size, key_id, note) VALUES (1, 'k', 'note')"
        catalog.write(lambda connection: connection.execute(text(insert_head)))
        with pytest.raises(DatabaseError, match=r"append-only|only grows"):
            catalog.write(lambda connection: connection.execute(text(statement)))
        assert len(documents(catalog)) == 1


def test_each_catalog_has_a_log_of_its_own(tmp_path: Path) -> None:
    """Two catalogs made anew have logs of different names."""
    origins = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        database = Database(url_of(tmp_path / name))
        try:
            upgrade(database)
            with database.transaction(write=False) as connection:
                origins.add(log_state(connection).origin)
        finally:
            database.close()
    assert len(origins) == 2
