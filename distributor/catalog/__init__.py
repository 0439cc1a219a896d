"""Which artifacts exist, how their versions descend from each other, and which deltas are built.

Functions over a connection, called within one transaction; never touches a blob.
"""

from distributor.catalog.artifacts import (
    CatalogArtifact,
    add_artifact,
    blob_size,
    check_new,
    find_artifacts,
    get_artifact,
    list_artifacts,
    mark_damaged,
    missing_blobs,
    unknown_blobs,
    variants_of,
)
from distributor.catalog.deltas import CatalogDelta, add_delta, drop_delta, find_deltas

__all__ = [
    "CatalogArtifact",
    "CatalogDelta",
    "add_artifact",
    "add_delta",
    "blob_size",
    "check_new",
    "drop_delta",
    "find_artifacts",
    "find_deltas",
    "get_artifact",
    "list_artifacts",
    "mark_damaged",
    "missing_blobs",
    "unknown_blobs",
    "variants_of",
]
