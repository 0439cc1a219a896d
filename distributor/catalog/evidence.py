"""Evidence of artifacts: kept with its version, byte for byte, and never taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from distributor.catalog.artifacts import add_artifact
from distributor.storage.tables import evidence as table
from edge_sdk.base import Digest, RefusedError
from edge_sdk.evidence import EVIDENCE_KEPT_BYTES_MAX, EVIDENCE_KEPT_MAX, Evidence
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
    """As ``add_artifact``; what is there already, artifact or evidence, is not added again.

    Raises: also RefusedError (more evidence than an artifact may have).
    """
    created = add_artifact(connection, document, manifest, at_ms=at_ms, by=by)
    artifact = str(Digest.of(document))
    query = select(table.c.digest, func.length(table.c.document).label("size"))
    rows = connection.execute(query.where(table.c.artifact == artifact))
    known = {one.digest: int(one.size) for one in rows}
    new = tuple(one for one in evidence if str(one.digest) not in known)
    _check_room(known, new)
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


def _check_room(known: Mapping[str, int], new: Sequence[Evidence]) -> None:
    """The same signature may be written in any number of ways. Raises: RefusedError."""
    size_bytes = sum(known.values()) + sum(len(one.document) for one in new)
    many, large = len(known) + len(new) > EVIDENCE_KEPT_MAX, size_bytes > EVIDENCE_KEPT_BYTES_MAX
    if new and (many or large):
        raise RefusedError(
            f"a version has at most {EVIDENCE_KEPT_MAX} pieces of evidence, of "
            f"{EVIDENCE_KEPT_BYTES_MAX} bytes together; this one has {len(known)} already"
        )


def evidence_of(connection: Connection, artifact: Digest) -> list[Digest]:
    """The oldest first."""
    query = (
        select(table.c.digest)
        .where(table.c.artifact == str(artifact))
        .order_by(table.c.added_ms, table.c.digest)
    )
    return [Digest.parse(one) for one in connection.execute(query).scalars()]


def get_evidence(connection: Connection, artifact: Digest, digest: Digest) -> KeptEvidence:
    """One of ``evidence_of``, which never goes away."""
    query = select(table.c.document, table.c.added_ms).where(
        table.c.artifact == str(artifact), table.c.digest == str(digest)
    )
    one = connection.execute(query).one()
    return KeptEvidence(document=bytes(one.document), added_ms=one.added_ms)
