"""Artifacts and their files: adding one is idempotent, changing one is impossible."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, insert, select, update

from distributor.planning import ArtifactFacts
from distributor.storage.tables import artifact_files, artifacts, blobs, deltas
from edge_sdk.base import (
    ConflictError,
    Digest,
    FormatError,
    ModelName,
    NotFoundError,
    Version,
)
from edge_sdk.manifest import Manifest, decode_manifest

# SQLite takes 32,766 values in one statement, PostgreSQL 65,535; far below both.
_IN_MAX = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogArtifact:
    """One published artifact; ``document`` is its manifest, byte for byte."""

    artifact: Digest
    model: ModelName
    version: Version
    variant: str
    parent: Version | None
    format: str
    size_bytes: int
    published_ms: int
    document: bytes

    def manifest(self) -> Manifest:
        return decode_manifest(self.document)

    def facts(self) -> ArtifactFacts:
        """What planning needs of it. Kept for the next device: a document never changes."""
        return _facts(self.document)


@lru_cache(maxsize=64)
def _facts(document: bytes) -> ArtifactFacts:
    return ArtifactFacts.of(Digest.of(document), decode_manifest(document))


def check_new(connection: Connection, artifact: Digest, manifest: Manifest) -> bool:
    """Whether this manifest may be published; false where exactly it is there already.

    Raises: ConflictError (version and variant are there with other content, or the version
    has another parent), NotFoundError (unknown parent), FormatError (its own parent).
    """
    rows = connection.execute(
        select(artifacts.c.artifact, artifacts.c.variant, artifacts.c.parent).where(
            artifacts.c.model == str(manifest.model), artifacts.c.version == str(manifest.version)
        )
    ).all()
    name = f"{manifest.model} {manifest.version}"
    for row in rows:
        if row.variant == manifest.variant:
            if row.artifact == str(artifact):
                return False
            raise ConflictError(
                f"{name} {manifest.variant} is published already, with other content "
                f"({row.artifact[:12]}); publish a new version",
                published=row.artifact,
            )
    parent = None if manifest.parent is None else str(manifest.parent)
    for row in rows:
        if row.parent != parent:
            raise ConflictError(
                f"{name} has parent {row.parent or 'none'} in its variant {row.variant}; "
                f"{manifest.variant} must say the same, not {parent or 'none'}"
            )
    _check_parent(connection, manifest)
    return True


def _check_parent(connection: Connection, manifest: Manifest) -> None:
    if manifest.parent is None:
        return
    if manifest.parent == manifest.version:
        raise FormatError(f"{manifest.model} {manifest.version} cannot be its own parent")
    found = connection.execute(
        select(artifacts.c.artifact)
        .where(
            artifacts.c.model == str(manifest.model), artifacts.c.version == str(manifest.parent)
        )
        .limit(1)
    ).first()
    if found is None:
        raise NotFoundError(
            f"{manifest.model} has no version {manifest.parent} to be the parent of "
            f"{manifest.version}; publish it first, or name no parent"
        )


def add_artifact(
    connection: Connection, document: bytes, manifest: Manifest, *, at_ms: int, by: str
) -> bool:
    """Adds an artifact whose blobs are durable already, and all that it says of them proved;
    false where it is there already.

    Raises: as ``check_new``.
    """
    artifact = Digest.of(document)
    created = check_new(connection, artifact, manifest)
    stated = {one.digest: StoredBytes(one.size_bytes, one.sha256) for one in manifest.files}
    add_blobs(connection, stated)
    if not created:
        return False
    connection.execute(
        insert(artifacts).values(
            artifact=str(artifact),
            model=str(manifest.model),
            version=str(manifest.version),
            variant=manifest.variant,
            parent=None if manifest.parent is None else str(manifest.parent),
            format=manifest.format,
            size_bytes=manifest.size_bytes,
            published_ms=at_ms,
            published_by=by,
            manifest=document,
        )
    )
    connection.execute(
        insert(artifact_files),
        [
            {"artifact": str(artifact), "path": entry.path, "digest": str(entry.digest)}
            for entry in manifest.files
        ],
    )
    return True


class StoredBytes(NamedTuple):
    """What is known of a blob's bytes. ``sha256``: none where nobody computed it yet."""

    size_bytes: int
    sha256: Digest | None


def add_blobs(connection: Connection, stored: Mapping[Digest, StoredBytes]) -> None:
    """Records blobs that are durable and whole; one that was damaged is so no more."""
    known = _known(connection, stored)
    again = [str(one) for one in stored if known.get(str(one), False)]
    for part in parts(again):
        connection.execute(update(blobs).where(blobs.c.digest.in_(part)).values(damaged=False))
    new = [one for one in stored if str(one) not in known]
    if new:
        connection.execute(insert(blobs), [_row(one, stored[one]) for one in new])


def _row(digest: Digest, stored: StoredBytes) -> dict[str, object]:
    sha256 = None if stored.sha256 is None else str(stored.sha256)
    size_bytes = stored.size_bytes
    return {"digest": str(digest), "size_bytes": size_bytes, "damaged": False, "sha256": sha256}


def stored_bytes(connection: Connection, digests: Iterable[Digest]) -> dict[Digest, StoredBytes]:
    """Those of them that are known here."""
    found = {}
    for part in parts([*digests]):
        query = select(blobs.c.digest, blobs.c.size_bytes, blobs.c.sha256)
        for row in connection.execute(query.where(blobs.c.digest.in_(part))):
            sha256 = None if row.sha256 is None else Digest.parse(row.sha256)
            found[Digest.parse(row.digest)] = StoredBytes(row.size_bytes, sha256)
    return found


def note_bytes(connection: Connection, digest: Digest, size_bytes: int, sha256: Digest) -> None:
    """Keeps what a blob's bytes were found to be: that never changes."""
    connection.execute(
        update(blobs)
        .where(blobs.c.digest == str(digest))
        .values(size_bytes=size_bytes, sha256=str(sha256))
    )


def mark_damaged(connection: Connection, digest: Digest) -> None:
    """Notes that a blob's bytes are not what its name says: publishing brings it again."""
    connection.execute(update(blobs).where(blobs.c.digest == str(digest)).values(damaged=True))


def missing_blobs(connection: Connection, digests: Iterable[Digest]) -> list[Digest]:
    """Those that are not here or damaged, each once, in the order given."""
    wanted = list(dict.fromkeys(digests))
    known = _known(connection, wanted)
    return [one for one in wanted if known.get(str(one), True)]


def unknown_blobs(connection: Connection, digests: Iterable[Digest]) -> list[Digest]:
    """Those that no row speaks of: left by a process that was killed before it could."""
    wanted = list(dict.fromkeys(digests))
    known = _known(connection, wanted)
    return [one for one in wanted if str(one) not in known]


def _known(connection: Connection, digests: Iterable[Digest]) -> dict[str, bool]:
    """Whether each known blob is damaged."""
    found: dict[str, bool] = {}
    for part in parts([*digests]):
        query = select(blobs.c.digest, blobs.c.damaged).where(blobs.c.digest.in_(part))
        found.update({row.digest: row.damaged for row in connection.execute(query)})
    return found


def blob_size(connection: Connection, digest: Digest) -> int:
    """Raises: NotFoundError."""
    size = connection.execute(
        select(blobs.c.size_bytes).where(blobs.c.digest == str(digest))
    ).scalar_one_or_none()
    if size is None:
        raise NotFoundError(f"there is no blob or delta {digest}")
    return int(size)


def get_artifact(connection: Connection, artifact: Digest) -> CatalogArtifact:
    """Raises: NotFoundError."""
    found = find_artifacts(connection, [artifact])
    if artifact not in found:
        raise NotFoundError(f"there is no artifact {artifact}", artifact=str(artifact))
    return found[artifact]


def find_artifacts(
    connection: Connection, wanted: Collection[Digest]
) -> dict[Digest, CatalogArtifact]:
    """Those of ``wanted`` that the catalog has."""
    found = {}
    for part in parts(wanted):
        for row in connection.execute(select(artifacts).where(artifacts.c.artifact.in_(part))):
            value = _artifact(row)
            found[value.artifact] = value
    return found


def list_artifacts(connection: Connection, model: ModelName | None) -> list[CatalogArtifact]:
    """All, or those of one model; by model, then version (oldest first), then variant."""
    query = select(artifacts)
    if model is not None:
        query = query.where(artifacts.c.model == str(model))
    found = [_artifact(row) for row in connection.execute(query)]
    return sorted(found, key=lambda one: (one.model, one.version, one.variant))


def variants_of(
    connection: Connection, model: ModelName, version: Version
) -> list[CatalogArtifact]:
    """Every variant of one version. Raises: NotFoundError (there is none)."""
    query = select(artifacts).where(
        artifacts.c.model == str(model), artifacts.c.version == str(version)
    )
    found = [_artifact(row) for row in connection.execute(query.order_by(artifacts.c.variant))]
    if not found:
        raise NotFoundError(f"{model} {version} is not published here")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """An artifact's place in the history of its model and variant."""

    artifact: Digest
    model: ModelName
    version: Version
    variant: str
    size_bytes: int


def history_of(
    connection: Connection, model: ModelName | None, variant: str | None = None
) -> list[Published]:
    """All of a model (or of every model) in the order in which they were published. That order
    never changes; without their manifests, since there may be many."""
    query = select(
        artifacts.c.artifact,
        artifacts.c.model,
        artifacts.c.version,
        artifacts.c.variant,
        artifacts.c.size_bytes,
        artifacts.c.published_ms,
    )
    if model is not None:
        query = query.where(artifacts.c.model == str(model))
    if variant is not None:
        query = query.where(artifacts.c.variant == variant)
    rows = [
        (
            row.published_ms,
            Published(
                artifact=Digest.parse(row.artifact),
                model=ModelName.parse(row.model),
                version=Version.parse(row.version),
                variant=row.variant,
                size_bytes=row.size_bytes,
            ),
        )
        for row in connection.execute(query)
    ]
    rows.sort(key=lambda row: (row[0], row[1].version, str(row[1].artifact)))
    return [published for _, published in rows]


def file_bytes(connection: Connection, wanted: Collection[Digest]) -> int:
    """Of the files of artifacts; what they share counts once."""
    sizes: dict[str, int] = {}
    for part in parts(wanted):
        query = (
            select(blobs.c.digest, blobs.c.size_bytes)
            .join(artifact_files, artifact_files.c.digest == blobs.c.digest)
            .where(artifact_files.c.artifact.in_(part))
        )
        sizes.update({row.digest: row.size_bytes for row in connection.execute(query)})
    return sum(sizes.values())


def forget_blobs(connection: Connection, digests: Collection[Digest]) -> list[Digest]:
    """Takes out of the catalog those that no artifact and no delta speaks of; these."""
    used: set[str] = set()
    for part in parts(digests):
        for column in (artifact_files.c.digest, deltas.c.delta):
            used |= set(connection.execute(select(column).where(column.in_(part))).scalars())
    unused = [one for one in sorted(digests, key=str) if str(one) not in used]
    for part in parts(unused):
        connection.execute(delete(blobs).where(blobs.c.digest.in_(part)))
    return unused


def _artifact(row: Row[Any]) -> CatalogArtifact:
    return CatalogArtifact(
        artifact=Digest.parse(row.artifact),
        model=ModelName.parse(row.model),
        version=Version.parse(row.version),
        variant=row.variant,
        parent=None if row.parent is None else Version.parse(row.parent),
        format=row.format,
        size_bytes=row.size_bytes,
        published_ms=row.published_ms,
        document=bytes(row.manifest),
    )


def parts(digests: Collection[Digest | str]) -> Iterable[list[str]]:
    """As text, so many at a time as one statement may name."""
    texts = [str(one) for one in digests]
    for start in range(0, len(texts), _IN_MAX):
        yield texts[start : start + _IN_MAX]
