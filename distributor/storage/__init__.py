"""Durable state: the catalog's tables in SQL, and blobs named by their digest.

Knows nothing of models, devices or rollouts; rooms above write the queries.
"""

import distributor.storage.tables_identity
import distributor.storage.tables_operators  # noqa: F401 - its tables belong to METADATA
from distributor.storage.blobs import Blobs, Staging
from distributor.storage.database import Database, catalog_url, sqlite_url
from distributor.storage.elsewhere import catalog_of, remember_catalog
from distributor.storage.folder import DataFolder
from distributor.storage.upgrade import initialise, schema_version, upgrade

__all__ = [
    "Blobs",
    "DataFolder",
    "Database",
    "Staging",
    "catalog_of",
    "catalog_url",
    "initialise",
    "remember_catalog",
    "schema_version",
    "sqlite_url",
    "upgrade",
]
