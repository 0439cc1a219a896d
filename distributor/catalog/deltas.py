"""Deltas that are built: unique by source, target and what the decoder was to know."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from distributor.catalog.artifacts import (
    StoredBytes,
    add_blobs,
    forget_blobs,
    mark_damaged,
    parts,
)
from distributor.planning import StoredDelta
from distributor.storage.tables import blobs, deltas
from edge_sdk.base import Digest

_FROM_NOTHING = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogDelta:
    """A delta in the blob store; ``source`` is none where it is the whole."""

    source: Digest | None
    target: Digest
    capability: str
    delta: Digest
    size_bytes: int
    decoder_memory_bytes: int
    methods: tuple[str, ...]
    build_ms: int
    built_ms: int

    @property
    def format_version(self) -> int:
        """Of the container; a capability set begins with it, as in ``v0 copy+literal 65536``."""
        return int(self.capability.partition(" ")[0].removeprefix("v"))


def add_delta(connection: Connection, delta: CatalogDelta) -> CatalogDelta:
    """Records a delta whose blob is durable; where another process was first, answers its."""
    for known in find_deltas(connection, delta.target, capability=delta.capability):
        if known.source == delta.source:
            return known
    add_blobs(connection, {delta.delta: StoredBytes(delta.size_bytes, None)})
    connection.execute(
        insert(deltas).values(
            source=_FROM_NOTHING if delta.source is None else str(delta.source),
            target=str(delta.target),
            capability=delta.capability,
            delta=str(delta.delta),
            size_bytes=delta.size_bytes,
            decoder_memory_bytes=delta.decoder_memory_bytes,
            methods=list(delta.methods),
            built_ms=delta.built_ms,
            build_ms=delta.build_ms,
        )
    )
    return delta


def find_deltas(
    connection: Connection, target: Digest, *, capability: str | None = None
) -> list[CatalogDelta]:
    """Every delta to ``target``, or those built for one capability set."""
    query = select(deltas).where(deltas.c.target == str(target))
    if capability is not None:
        query = query.where(deltas.c.capability == capability)
    query = query.order_by(deltas.c.source, deltas.c.capability)
    return [_delta(row) for row in connection.execute(query)]


def list_deltas(
    connection: Connection,
    targets: Collection[Digest],
    *,
    sources: Collection[Digest] | None = None,
) -> list[CatalogDelta]:
    """Every delta to one of ``targets``; of these, those from one of ``sources``."""
    starts = None if sources is None else {str(one) for one in sources}
    order = (deltas.c.target, deltas.c.source, deltas.c.capability)
    found = []
    for part in parts(targets):
        query = select(deltas).where(deltas.c.target.in_(part)).order_by(*order)
        rows = connection.execute(query)
        found += [_delta(row) for row in rows if starts is None or row.source in starts]
    return found


def delta_bytes(connection: Connection) -> int:
    """Of all deltas; those with the same bytes are one blob."""
    each = select(blobs.c.size_bytes).where(blobs.c.digest.in_(select(deltas.c.delta)))
    return int(connection.execute(select(func.sum(each.subquery().c.size_bytes))).scalar() or 0)


def remove_deltas(connection: Connection, gone: Iterable[StoredDelta]) -> list[Digest]:
    """Takes deltas out of the catalog; the blobs that nothing speaks of any more."""
    left = set()
    for one in gone:
        connection.execute(
            delete(deltas).where(
                deltas.c.source == (_FROM_NOTHING if one.source is None else str(one.source)),
                deltas.c.target == str(one.target),
                deltas.c.capability == one.capability,
            )
        )
        left.add(one.delta)
    return forget_blobs(connection, left)


def drop_delta(connection: Connection, delta: Digest) -> None:
    """Forgets a delta whose bytes are damaged: it is built again when it is asked for."""
    connection.execute(delete(deltas).where(deltas.c.delta == str(delta)))
    mark_damaged(connection, delta)


def _delta(row: Row[Any]) -> CatalogDelta:
    return CatalogDelta(
        source=None if row.source == _FROM_NOTHING else Digest.parse(row.source),
        target=Digest.parse(row.target),
        capability=row.capability,
        delta=Digest.parse(row.delta),
        size_bytes=row.size_bytes,
        decoder_memory_bytes=row.decoder_memory_bytes,
        methods=tuple(row.methods),
        build_ms=row.build_ms,
        built_ms=row.built_ms,
    )
