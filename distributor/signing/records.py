"""The documents of signed metadata as rows: the newest of each role, and what went before.

Nothing here judges what is in them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from distributor.storage.tables import (
    artifacts,
    metadata_documents,
    metadata_roles,
    sealed_assignments,
    signed_targets,
)
from edge_sdk.base import ConflictError, Digest, ModelName, NotFoundError, Version
from edge_sdk.trust import ROOT, TIMESTAMP, bin_prefix, namespace_of, parse_file_name

_DIGITS = 20
_IN_MAX = 500  # values in one statement: SQLite takes 32,766, PostgreSQL 65,535
# A device in the middle of a refresh still asks for what the timestamp that it has names.
_KEPT_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An artifact that a publisher signed, in the document of ``role``."""

    path: str
    role: str
    artifact: Digest
    model: ModelName
    floor: Version | None


def lock(connection: Connection) -> None:
    """One change of the metadata at a time, where the database would allow more."""
    query = select(metadata_roles.c.role).where(metadata_roles.c.role == TIMESTAMP)
    connection.execute(query.with_for_update()).all()


def versions(connection: Connection) -> dict[str, int]:
    """The newest version of every role."""
    return {row.role: int(row.version) for row in connection.execute(select(metadata_roles))}


def newest(connection: Connection, role: str) -> bytes | None:
    """The newest document of a role; None where there never was one."""
    return connection.execute(
        select(metadata_documents.c.document)
        .join(
            metadata_roles,
            (metadata_roles.c.role == metadata_documents.c.role)
            & (metadata_roles.c.version == metadata_documents.c.version),
        )
        .where(metadata_documents.c.role == role)
    ).scalar_one_or_none()


def metadata_file(connection: Connection, name: str) -> bytes:
    """The metadata file that goes by ``name`` on the wire. Raises: FormatError, NotFoundError."""
    role, version = parse_file_name(name)
    if version is None:
        document = newest(connection, TIMESTAMP)
    else:
        document = connection.execute(
            select(metadata_documents.c.document).where(
                metadata_documents.c.role == role,
                metadata_documents.c.version == _text(version),
            )
        ).scalar_one_or_none()
    if document is None:
        raise NotFoundError(f"there is no metadata file {name} here", name=name)
    return document


def find_root(connection: Connection, digest: bytes) -> bytes:
    """The root document of that SHA-256, or the newest; empty where there is none."""
    if digest:
        roots = select(metadata_documents.c.document).where(metadata_documents.c.role == ROOT)
        for document in connection.execute(roots).scalars():
            if hashlib.sha256(document).digest() == digest:
                return bytes(document)
    return newest(connection, ROOT) or b""


def store(
    connection: Connection, role: str, version: int, document: bytes, *, at_ms: int, by: str
) -> None:
    """Makes ``document`` the newest of its role, if it is the very next version.

    Raises: ConflictError (somebody else was faster).
    """
    connection.execute(
        insert(metadata_documents).values(
            role=role, version=_text(version), document=document, put_ms=at_ms, put_by=by
        )
    )
    if version == 1:
        connection.execute(insert(metadata_roles).values(role=role, version=_text(1)))
    else:
        # The swap of compare-and-swap: whatever was compared before, this decides.
        moved = connection.execute(
            update(metadata_roles)
            .where(metadata_roles.c.role == role, metadata_roles.c.version == _text(version - 1))
            .values(version=_text(version))
        )
        if moved.rowcount != 1:
            raise ConflictError(f"metadata {role} {version} was put by somebody else meanwhile")
    if role != ROOT:
        _drop_old(connection, role, version, at_ms)


def _drop_old(connection: Connection, role: str, version: int, at_ms: int) -> None:
    """Of every role but the root the newest two stay, and what is younger than an hour."""
    connection.execute(
        delete(metadata_documents).where(
            metadata_documents.c.role == role,
            metadata_documents.c.version < _text(version - 1),
            metadata_documents.c.put_ms < at_ms - _KEPT_MS,
        )
    )


def replace_targets(connection: Connection, role: str, targets: Iterable[Target]) -> None:
    """The targets that ``role``'s document has now. One path has one role."""
    rows = [
        {
            "path": one.path,
            "role": role,
            "artifact": str(one.artifact),
            "model": str(one.model),
            "floor": None if one.floor is None else str(one.floor),
        }
        for one in targets
    ]
    forget_targets(connection, [role])
    # A target that moved to another bin is still in the rows of the one before.
    for start in range(0, len(rows), _IN_MAX):
        part = rows[start : start + _IN_MAX]
        paths = [row["path"] for row in part]
        connection.execute(delete(signed_targets).where(signed_targets.c.path.in_(paths)))
        connection.execute(insert(signed_targets), part)


def forget_targets(connection: Connection, roles: Iterable[str]) -> None:
    """What these roles had does not count any more."""
    for role in roles:
        connection.execute(delete(signed_targets).where(signed_targets.c.role == role))


def has_targets(connection: Connection, role: str) -> bool:
    query = select(signed_targets.c.path).where(signed_targets.c.role == role)
    return connection.execute(query.limit(1)).first() is not None


def bins_with_targets(connection: Connection, role: str) -> set[str]:
    """The bins of the namespace that ``role`` is for, as far as they have targets."""
    prefix = f"{bin_prefix(namespace_of(role) or '')}-"
    query = select(signed_targets.c.role).distinct()
    found = connection.execute(
        query.where(signed_targets.c.role.startswith(prefix, autoescape=True))
    )
    return set(found.scalars())


def signed_among(connection: Connection, wanted: Iterable[Digest]) -> set[Digest]:
    """Those artifacts that are targets of the signed metadata."""
    texts = sorted({str(one) for one in wanted})
    found: set[Digest] = set()
    for start in range(0, len(texts), _IN_MAX):
        query = select(signed_targets.c.artifact).where(
            signed_targets.c.artifact.in_(texts[start : start + _IN_MAX])
        )
        found |= {Digest.parse(one) for one in connection.execute(query).scalars()}
    return found


def floor_of(connection: Connection, model: ModelName) -> Version | None:
    """The highest floor that a publisher signed for ``model``."""
    query = select(signed_targets.c.floor).where(
        signed_targets.c.model == str(model), signed_targets.c.floor.is_not(None)
    )
    return max(
        (Version.parse(one) for one in connection.execute(query).scalars() if one), default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated:
    """What the catalog knows of an artifact's manifest."""

    model: ModelName
    version: Version
    variant: str
    manifest_bytes: int


def stated(connection: Connection, wanted: Iterable[Digest]) -> Mapping[Digest, Stated]:
    """Those of the artifacts that are here."""
    texts = sorted({str(one) for one in wanted})
    found: dict[Digest, Stated] = {}
    for start in range(0, len(texts), _IN_MAX):
        query = select(
            artifacts.c.artifact,
            artifacts.c.model,
            artifacts.c.version,
            artifacts.c.variant,
            func.length(artifacts.c.manifest).label("manifest_bytes"),
        ).where(artifacts.c.artifact.in_(texts[start : start + _IN_MAX]))
        for row in connection.execute(query):
            found[Digest.parse(row.artifact)] = Stated(
                model=ModelName.parse(row.model),
                version=Version.parse(row.version),
                variant=row.variant,
                manifest_bytes=row.manifest_bytes,
            )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """The envelope that a device was given with an assignment of this number."""

    counter: int
    key_id: str
    envelope: bytes


def find_sealed(connection: Connection, device: str) -> Sealed | None:
    row = connection.execute(
        select(sealed_assignments).where(sealed_assignments.c.device == device)
    ).first()
    if row is None:
        return None
    return Sealed(counter=row.counter, key_id=row.key_id, envelope=row.envelope)


def keep_sealed(connection: Connection, device: str, sealed: Sealed) -> None:
    connection.execute(delete(sealed_assignments).where(sealed_assignments.c.device == device))
    connection.execute(
        insert(sealed_assignments).values(
            device=device,
            counter=sealed.counter,
            key_id=sealed.key_id,
            envelope=sealed.envelope,
        )
    )


def _text(version: int) -> str:
    return f"{version:0{_DIGITS}d}"
