"""A data folder whose catalog is in a database remembers which: without it, or with another,
it would look like a distributor that nobody ever used."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import URL

from distributor.storage.database import catalog_url
from distributor.storage.folder import DataFolder
from edge_sdk.base import ConflictError, explain_os_error, whole_file

_TEXT_BYTES_MAX = 4096


def catalog_of(folder: DataFolder, setting: str) -> URL:
    """Where the catalog of a folder is: what the setting says, else in the folder.

    Raises: ConflictError (the folder was made with a catalog elsewhere), UsageError.
    """
    url = catalog_url(folder.catalog, setting)
    place, kept = _place(folder, url), _kept(folder.elsewhere)
    if kept and not place:
        raise ConflictError(
            f"the catalog of {folder.root} is not in it but at {kept}: say so with --database, "
            "EDGE_DISTRIBUTOR_DATABASE or database in the configuration"
        )
    if kept and place != kept:
        raise ConflictError(
            f"the catalog of {folder.root} is at {kept}, not at {place}; if it was moved there, "
            f"remove {folder.elsewhere}"
        )
    return url


def remember_catalog(folder: DataFolder, url: URL) -> None:
    """Writes down where the catalog is, once, where it is not in the folder."""
    place = _place(folder, url)
    if place and not folder.elsewhere.exists():
        with whole_file(folder.elsewhere, replace=True) as stream:
            stream.write(f"{place}\n".encode())


def _place(folder: DataFolder, url: URL) -> str:
    """Empty: in the folder. Neither user nor options: they may change, or be secret."""
    if url.get_backend_name() == "sqlite":
        file = os.path.abspath(url.database or "")  # noqa: PTH100 - of text, as it is
        return "" if file == str(folder.catalog) else f"sqlite:///{file}"
    kept = URL.create("postgresql", host=url.host, port=url.port, database=url.database)
    return kept.render_as_string()


def _kept(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_TEXT_BYTES_MAX).decode("utf-8", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise explain_os_error(error, file) from error
