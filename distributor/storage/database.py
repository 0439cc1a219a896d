"""The catalog's connections: work runs on threads, one transaction each, writes one at a time.

What is committed is durable: SQLite runs in WAL mode with ``synchronous=FULL``, so that a
publish or an event that was acknowledged survives a power cut (402 commits a second where
NORMAL gives 15,000, which loses the last of them).

On PostgreSQL the same holds for all processes together: whoever writes first takes one lock of
the whole catalog, as SQLite does by itself, and a transaction that reads sees one moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from edge_sdk.base import FormatError, ResourceError, UnavailableError, UsageError

_READERS = 4
_BUSY_TIMEOUT_MS = 10_000
_WRITE_LOCK = 0x65646765  # "edge": which of PostgreSQL's advisory locks of this database is ours

T = TypeVar("T")


def sqlite_url(file: Path) -> URL:
    """The URL of a catalog in a file, whatever characters its path has."""
    return URL.create("sqlite", database=str(file))


def catalog_url(file: Path, setting: str) -> URL:
    """Where the catalog is: what the setting says, else in ``file``.

    Raises: UsageError (no URL, another kind of database, or a password in it).
    """
    if not setting:
        return sqlite_url(file)
    try:
        url = make_url(setting)
    except (ArgumentError, ValueError):
        raise UsageError(
            "the database is given as postgresql://USER@HOST/NAME, or as sqlite:////FILE"
        ) from None
    if url.password is not None or "password" in url.query:
        raise UsageError(
            "a password does not belong into the database's URL, where others may see it: put it "
            "into ~/.pgpass, or into the file that PGPASSFILE names"
        )
    if url.drivername == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("sqlite", "postgresql+psycopg"):
        raise UsageError(f"a catalog is in PostgreSQL or in SQLite, not in {url.drivername}")
    return url


class Database:
    """One catalog by URL. Rooms give it functions over a connection; they never keep one."""

    def __init__(self, url: str | URL, *, busy_timeout_ms: int = _BUSY_TIMEOUT_MS) -> None:
        self._engine = _engine(url)
        if self._engine.dialect.name == "sqlite":
            _prepare_sqlite(self._engine, busy_timeout_ms)
        else:
            _prepare_postgresql(self._engine, busy_timeout_ms)
        # One writer: SQLite has one anyway, and waiting here is fair, where its busy timeout
        # is not.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="catalog-write")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="catalog-read")

    @contextmanager
    def transaction(self, *, write: bool) -> Iterator[Connection]:
        """One transaction: committed when the block ends well, rolled back otherwise."""
        with explained(), self._engine.connect() as raw:
            connection = raw.execution_options(edge_write=write)
            with connection.begin():
                yield connection

    async def read(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Runs ``work(connection, ...)`` in a transaction that only reads."""
        return await self._run(self._readers, False, work, arguments, named)

    async def write(self, work: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Runs ``work(connection, ...)`` in a transaction; durable once this returns.

        It runs to its end even where the caller is cancelled: half of it never shows.
        """
        return await self._run(self._writer, True, work, arguments, named)

    async def _run(
        self,
        executor: ThreadPoolExecutor,
        write: bool,
        work: Callable[..., T],
        arguments: tuple[Any, ...],
        named: dict[str, Any],
    ) -> T:
        def act() -> T:
            with self.transaction(write=write) as connection:
                return work(connection, *arguments, **named)

        return await asyncio.get_running_loop().run_in_executor(executor, act)

    def close(self) -> None:
        """Waits for work in progress, then closes every connection."""
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        self._engine.dispose()


# Of PostgreSQL: a lock not had in time, going down, starting, too many connections.
_BUSY_STATES = frozenset({"55P03", "57P01", "57P02", "57P03", "53300"})


@contextmanager
def explained() -> Iterator[None]:
    """Turns what the database says when it cannot go on into typed errors."""
    try:
        yield
    except DatabaseError as error:
        if type(error) not in (DatabaseError, OperationalError):
            raise  # a constraint that our own statement broke
        text = str(error.orig)
        state = getattr(error.orig, "sqlstate", None) or ""  # PostgreSQL's
        if "full" in text or state == "53100":
            raise ResourceError(f"the catalog cannot grow: {text}; free some disk space") from error
        if "locked" in text or "connect" in text or state in _BUSY_STATES or state[:2] == "08":
            raise UnavailableError(f"the catalog is busy or cannot be reached: {text}") from error
        if "not a database" in text or "malformed" in text:
            raise FormatError(
                f"the catalog is damaged: {text}; put a copy from before in its place"
            ) from error
        if "disk I/O" in text:
            raise ResourceError(
                f"the catalog cannot be written: {text}; is the disk full or failing?"
            ) from error
        if "unable to open" in text or "readonly" in text:
            raise UsageError(
                f"the catalog cannot be opened for writing: {text}; whose is the data folder?"
            ) from error
        raise


def _engine(url: str | URL) -> Engine:
    # Looked at before each use: a server may have been started again meanwhile.
    elsewhere = make_url(url).get_backend_name() != "sqlite"
    try:
        return create_engine(url, pool_size=_READERS + 1, max_overflow=1, pool_pre_ping=elsewhere)
    except ModuleNotFoundError:
        raise UsageError(
            "PostgreSQL needs its driver: pip install 'edge-model-sdk[distributor,postgresql]'"
        ) from None


def _prepare_postgresql(engine: Engine, busy_timeout_ms: int) -> None:
    """Durability, one writer of all processes, and reads of one moment."""

    @event.listens_for(engine, "connect")
    def connected(raw: Any, _entry: ConnectionPoolEntry) -> None:
        # The writers of one process wait for each other here, so this is for other processes.
        raw.execute("SET synchronous_commit = on")
        raw.execute(f"SET lock_timeout = {busy_timeout_ms}")
        raw.commit()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        if connection.get_execution_options().get("edge_write", True):
            # READ COMMITTED below the lock: each statement sees all that writers before did.
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")
        else:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")


def _prepare_sqlite(engine: Engine, busy_timeout_ms: int) -> None:
    """Durability, foreign keys, and transactions that begin when we say so."""

    @event.listens_for(engine, "connect")
    def connected(raw: Any, _entry: ConnectionPoolEntry) -> None:
        raw.isolation_level = None  # the driver's own BEGIN comes too late for reads
        cursor = raw.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={busy_timeout_ms}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # IMMEDIATE takes the write lock first: a read that turns into a write in the middle
        # of a transaction fails at once under WAL, without waiting for the busy timeout.
        write = connection.get_execution_options().get("edge_write", True)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
