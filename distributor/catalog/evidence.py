"""Evidence of artifacts: kept with its version, byte for byte, and never taken away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from distributor.catalog.artifacts import add_artifact
from distributor.storage.tables import evidence as table
from edge_sdk.base import Digest
from edge_sdk.evidence import Evidence
from edge_sdk.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """``created``: the artifact is new. ``evidence``: that of it which is new."""

    created: bool
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvidence:
    document: bytes
    added_ms: int


def add_with_evidence(
    connection: Connection,
    document: bytes,
    manifest: Manifest,
    evidence: Sequence[Evidence],
    *,
    at_ms: int,
    by: str,
) -> Added:
    """As ``add_artifact``; what is there already, artifact or evidence, is not added again."""
    created = add_artifact(connection, document, manifest, at_ms=at_ms, by=by)
    artifact = str(Digest.of(document))
    query = select(table.c.digest).where(table.c.artifact == artifact)
    known = set(connection.execute(query).scalars())
    new = tuple(one for one in evidence if str(one.digest) not in known)
    for one in new:
        connection.execute(
            insert(table).values(
                artifact=artifact,
                digest=str(one.digest),
                kind=one.kind,
                signer=one.signer,
                added_ms=at_ms,
                added_by=by,
                document=one.document,
            )
        )
    return Added(created=created, evidence=new)


def evidence_of(connection: Connection, artifact: Digest) -> list[KeptEvidence]:
    """The oldest first."""
    rows = connection.execute(
        select(table.c.document, table.c.added_ms)
        .where(table.c.artifact == str(artifact))
        .order_by(table.c.added_ms, table.c.digest)
    )
    return [KeptEvidence(document=bytes(one.document), added_ms=one.added_ms) for one in rows]
