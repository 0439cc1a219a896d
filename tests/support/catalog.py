"""A catalog without a server: rooms are called in transactions of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from sqlalchemy import URL, Connection, delete, insert, select

from distributor import catalog, devices, rollouts
from distributor.devices import CheckIn, DeviceRecord, ModelState
from distributor.planning import DecoderFacts, DeviceFacts
from distributor.rollouts import Cohort, DeviceEvent, Rollout, RolloutRequest, Touched
from distributor.storage import Database, sqlite_url, upgrade
from distributor.storage.tables import metadata_roles, signed_targets
from edge_sdk.base import Digest, ModelName, Version
from edge_sdk.delta import FORMAT_VERSION
from edge_sdk.manifest import Assignment
from edge_sdk.trust import ROOT, namespace_role, target_path
from tests.support import postgres
from tests.support.artifacts import ArtifactBytes, make_artifact

# About what only a file is, or only SQLite does.
files_only = pytest.mark.skipif(postgres.chosen() is not None, reason="about SQLite alone")

T = TypeVar("T")
MODEL = ModelName.parse("team/digits")
AT_MS = 1_700_000_000_000


class Catalog:
    """A catalog with shortcuts for what tests do again and again."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.pretends = True  # that publishers signed what is added; see ``pretend_signed``

    def write(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        with self.database.transaction(write=True) as connection:
            return work(connection, *arguments, **named)

    def read(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        with self.database.transaction(write=False) as connection:
            return work(connection, *arguments, **named)

    def add(self, artifact: ArtifactBytes) -> bool:
        added = self.write(
            catalog.add_artifact, artifact.document, artifact.manifest, at_ms=AT_MS, by="alice"
        )
        if self.pretends:
            self.write(pretend_signed, artifact)
        return added

    def add_version(self, version: str, *, parent: str | None = None, **facts: Any) -> Digest:
        """Publishes a small artifact of ``team/digits``; its identity."""
        variant = facts.get("variant", "fp32")
        data = f"{version} {variant}".encode()
        made = make_artifact({"m.bin": data}, version=version, parent=parent, **facts)
        assert self.add(made)
        return made.artifact

    def check_in(
        self,
        device: str,
        *,
        active: Digest | None = None,
        version: str = "1.0.0",
        state: str = "committed",
        counter: int | None = None,
        **facts: Any,
    ) -> DeviceRecord:
        """A check-in of a capable device that runs ``active`` of ``team/digits``."""
        models = () if active is None else (_running(active, version, state),)
        accepted = self.counter(device) if counter is None else counter
        said = CheckIn(
            facts=device_facts(device, **facts),
            agent_version="0.1.0",
            accepted_counter=accepted,
            held=() if active is None else (active,),
            models=models,
        )
        return self.write(devices.record_check_in, said, at_ms=AT_MS)

    def counter(self, device: str) -> int:
        """The counter of the newest assignment made for a device; 0: none."""
        found = self.read(devices.find_devices, [device])
        return found[0].assigned_counter if found else 0

    def assignment(self, device: str) -> Assignment:
        return rollouts.read_assignment(self.read(devices.get_device, device))

    def roll_out(self, version: str, *names: str, retry: bool = False, **cohort: Any) -> Rollout:
        """Creates a rollout and assigns it, as if every delta had been built."""
        request = RolloutRequest(
            model=MODEL,
            version=Version.parse(version),
            cohort=Cohort(devices=names, **cohort),
            retry=retry,
        )
        made = self.write(rollouts.create, request, at_ms=AT_MS, by="alice")
        self.assign(made)
        return self.rollout(made.rollout)

    def assign(self, rollout: Rollout) -> Touched:
        rows = {row.key: row for row in rollout.devices}
        return self.write(rollouts.assign_built, rollout.rollout, rows, at_ms=AT_MS + 1)

    def rollout(self, rollout: str) -> Rollout:
        return self.read(rollouts.get_rollout, rollout)

    def states(self, rollout: str) -> dict[str, str]:
        return {row.device: row.state for row in self.rollout(rollout).devices}

    def report(self, device: str, *events: DeviceEvent) -> tuple[int, Touched]:
        return self.write(rollouts.store_events, device, events, at_ms=AT_MS + 2)

    def event(self, device: str, number: int, state: str, **facts: Any) -> DeviceEvent:
        """An event about what is assigned to the device now."""
        one = self.assignment(device).models[0]
        values: dict[str, Any] = {
            "at_ms": AT_MS,
            "model": str(one.model),
            "version": str(one.version),
            "artifact": one.artifact,
            "rollout": one.rollout,
            "attempt": one.attempt,
        }
        return DeviceEvent(number=number, state=state, **(values | facts))


def pretend_signed(connection: Connection, artifact: ArtifactBytes) -> None:
    """Writes what the catalog knows of an artifact that its publisher signed, without any keys:
    for tests that are about something else. Assignments then travel unsigned."""
    known = select(metadata_roles).where(metadata_roles.c.role == ROOT)
    if connection.execute(known).first() is None:
        connection.execute(insert(metadata_roles).values(role=ROOT, version=f"{1:020d}"))
    said = artifact.manifest
    path = target_path(said.model, said.version, said.variant)
    connection.execute(delete(signed_targets).where(signed_targets.c.path == path))
    connection.execute(
        insert(signed_targets).values(
            path=path,
            role=namespace_role(said.model.namespace),
            artifact=str(artifact.artifact),
            model=str(said.model),
        )
    )


def stop_pretending(connection: Connection) -> None:
    """For a test that goes on with real metadata."""
    connection.execute(delete(signed_targets))
    connection.execute(delete(metadata_roles))


def device_facts(device: str, **facts: Any) -> DeviceFacts:
    decoder = DecoderFacts(
        versions=frozenset({FORMAT_VERSION}),
        methods=frozenset({"copy", "literal", "patch", "residual"}),
        memory_bytes=64 << 20,
    )
    return DeviceFacts(device=device, **({"decoder": decoder} | facts))


def _running(active: Digest, version: str, state: str) -> ModelState:
    return ModelState(
        model=MODEL, active=active, active_version=Version.parse(version), state=state
    )


@cache
def _empty_catalog() -> bytes:
    """A catalog as the migrations make it: run once, since each run takes a quarter second."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "catalog.db"
        _upgrade(sqlite_url(file))
        return file.read_bytes()


@cache
def _empty_template() -> str:
    """The same as a database of PostgreSQL, where that is asked for."""
    url = postgres.database_of(Path("template"))
    _upgrade(url)
    assert url.database is not None
    return url.database


def _upgrade(url: URL) -> None:
    database = Database(url)
    try:
        upgrade(database)
    finally:
        database.close()


def url_of(folder: Path) -> URL:
    """Where the catalog of ``folder`` is or will be: a file, or a database of PostgreSQL
    (tests/support/postgres.py), without any table at first."""
    if postgres.chosen() is not None:
        return postgres.database_of(folder.absolute())
    return sqlite_url(folder / "catalog.db")


def database_setting(folder: Path) -> str:
    """The same for a distributor with that data folder; "": its own file."""
    if postgres.chosen() is None:
        return ""
    return url_of(folder).render_as_string()


@contextmanager
def open_catalog(folder: Path) -> Iterator[Catalog]:
    """The catalog in ``folder``, fresh where there is none, for as long as the block lasts."""
    database = Database(_upgraded_url(folder))
    try:
        yield Catalog(database)
    finally:
        database.close()


def _upgraded_url(folder: Path) -> URL:
    if postgres.chosen() is not None:
        return postgres.database_of(folder.absolute(), template=_empty_template())
    file = folder / "catalog.db"
    if not file.exists():
        file.write_bytes(_empty_catalog())
    return sqlite_url(file)
