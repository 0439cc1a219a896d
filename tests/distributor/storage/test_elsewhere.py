"""What a data folder remembers of a catalog elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.storage import DataFolder, catalog_of, remember_catalog
from edge_sdk.base import ConflictError


def test_neither_user_nor_options_are_kept(tmp_path: Path) -> None:
    """They may change without the catalog being another, or be secret."""
    folder = DataFolder(tmp_path)
    setting = "postgresql://edge@db.example:6000/fleet?sslkey=secret.key"
    remember_catalog(folder, catalog_of(folder, setting))
    assert folder.elsewhere.read_text() == "postgresql://db.example:6000/fleet\n"
    assert catalog_of(folder, "postgresql://ada@db.example:6000/fleet").username == "ada"
    with pytest.raises(ConflictError, match="is not in it but at postgresql://db"):
        catalog_of(folder, "")
    with pytest.raises(ConflictError, match=r"not at postgresql://db\.example/fleet"):
        catalog_of(folder, "postgresql://edge@db.example/fleet")


def test_a_catalog_in_the_folder_needs_no_memory(tmp_path: Path) -> None:
    """Also where its file is named."""
    folder = DataFolder(tmp_path)
    for setting in ("", f"sqlite:///{folder.catalog}"):
        remember_catalog(folder, catalog_of(folder, setting))
    assert not folder.elsewhere.exists()
