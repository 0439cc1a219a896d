"""Which artifacts exist, how their versions descend from each other, and which deltas are built.

Functions over a connection, called within one transaction; never touches a blob.
"""

from distributor.catalog.artifacts import (
    CatalogArtifact,
    Published,
    StoredBytes,
    add_artifact,
    blob_size,
    check_new,
    file_bytes,
    find_artifacts,
    get_artifact,
    history_of,
    list_artifacts,
    mark_damaged,
    missing_blobs,
    note_bytes,
    stored_bytes,
    unknown_blobs,
    variants_of,
)
from distributor.catalog.deltas import (
    CatalogDelta,
    add_delta,
    delta_bytes,
    drop_delta,
    find_deltas,
    list_deltas,
    remove_deltas,
)
from distributor.catalog.evidence import (
    Added,
    KeptEvidence,
    add_with_evidence,
    evidence_of,
    get_evidence,
)

__all__ = [
    "Added",
    "CatalogArtifact",
    "CatalogDelta",
    "KeptEvidence",
    "Published",
    "StoredBytes",
    "add_artifact",
    "add_delta",
    "add_with_evidence",
    "blob_size",
    "check_new",
    "delta_bytes",
    "drop_delta",
    "evidence_of",
    "file_bytes",
    "find_artifacts",
    "find_deltas",
    "get_artifact",
    "get_evidence",
    "history_of",
    "list_artifacts",
    "list_deltas",
    "mark_damaged",
    "missing_blobs",
    "note_bytes",
    "remove_deltas",
    "stored_bytes",
    "unknown_blobs",
    "variants_of",
]
