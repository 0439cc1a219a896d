"""``edge-distributor keys``: the keys that the distributor itself signs with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distributor.config import ONLINE_ROLES
from edge_sdk.base import FormatError, RefusedError, explain_os_error
from edge_sdk.base.command import (
    PathArgument,
    Settings,
    json_option,
    note,
    print_json,
    print_table,
)

if TYPE_CHECKING:  # what these bring along makes every command start late
    from securesystemslib.signer import SSlibKey

    from distributor.signing import OnlineKeys
    from edge_sdk.trust import ListedKey

_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
_NEXT = {
    "assignments": "it signs once new targets name it",
    "snapshot": "it signs once a new root names it",
    "timestamp": "it signs once a new root names it",
}


_DATA = click.option("--data", type=PathArgument(), help="Folder with catalog and blobs.")
_DATABASE = click.option("--database", help="URL of a catalog in PostgreSQL. [SQLite in --data]")
_FILE = click.option(
    "--config",
    "file",
    type=PathArgument(),
    envvar="EDGE_CONFIG",
    help="TOML file; its table [distributor] holds settings.",
)


@click.group(epilog="Example:  edge-distributor keys list --data ./distributor-data")
@_DEBUG
def keys() -> None:
    """The keys that sign snapshot, timestamp and assignments."""


@keys.command("list", epilog="Example:  edge-distributor keys list --json")
@_DATA
@_DATABASE
@_FILE
@json_option
@_DEBUG
def list_keys(as_json: bool, **where: Any) -> None:
    """Show every key, and whether the signed metadata name it."""
    shown = [_shown(key, in_use) for key, in_use in _keys_in_use(**where)]
    if as_json:
        print_json({"keys": shown})
        return
    rows = [[one["role"], one["key_id"], _said(one["in_use"]), one["uri"]] for one in shown]
    print_table(["role", "key", "in use", "where"], rows)


@keys.command(epilog="Example:  edge-distributor keys create --data ./distributor-data")
@_DATA
@_FILE
@json_option
@_DEBUG
def create(as_json: bool, **where: Any) -> None:
    """Make what is missing of one key for each role (init does it, too)."""
    created = _online(_data_folder(**where)).create()
    if as_json:
        print_json({"created": created})
    else:
        note("made what was missing" if created else "every role has a key already")


@keys.command(
    epilog="""\b
Examples:
  edge-distributor keys rotate timestamp
  edge-distributor keys rotate snapshot --uri 'hsm:2?label=edge' --public snapshot.pem

The new key signs as soon as signed metadata name it: a new root for snapshot and timestamp,
new targets for assignments (edge-fleet keys). The key of before goes on until then; take it
away afterwards with: edge-distributor keys remove.
"""
)
@click.argument("role", type=click.Choice(ONLINE_ROLES))
@click.option("--uri", help="Of a key elsewhere: hsm:, awskms:, gcpkms:, azurekms:, ...")
@click.option("--public", type=PathArgument(), help="PEM file with its public half.")
@_DATA
@_FILE
@json_option
@_DEBUG
def rotate(role: str, uri: str | None, public: Path | None, as_json: bool, **where: Any) -> None:
    """Add a new key for ROLE, to take the place of the one in use."""
    half = None if public is None else _read_public(public)
    made = _online(_data_folder(**where)).add(role, uri=uri, public=half)
    if as_json:
        print_json(_shown(made, False))
    else:
        note(f"{role} has the new key {made.key_id}; {_NEXT[role]}")


@keys.command(epilog="Example:  edge-distributor keys remove 3f0c...")
@click.argument("key_id")
@_DATA
@_DATABASE
@_FILE
@json_option
@_DEBUG
def remove(key_id: str, as_json: bool, **where: Any) -> None:
    """Forget a key that signed metadata name no more, and delete its file."""
    root = _data_folder(where["data"], where["file"])
    for key, in_use in _keys_in_use(**where):
        if key.key_id == key_id and in_use is not False:
            raise RefusedError(
                f"key {key_id} is in use for {key.role}: rotate it first, and have the new "
                "one named by signed metadata"
            )
    gone = _online(root).forget(key_id)
    if as_json:
        print_json(_shown(gone, False))
    else:
        note(f"key {key_id} of {gone.role} is gone")


def _data_folder(data: Path | None, file: Path | None) -> Path:
    return Path(Settings("distributor", file).get("data", data, "distributor-data"))


def _online(root: Path) -> OnlineKeys:
    from distributor.signing import OnlineKeys
    from distributor.storage import DataFolder

    folder = DataFolder(root)
    folder.check()
    return OnlineKeys(folder.keys)


def _keys_in_use(
    data: Path | None, database: str | None, file: Path | None
) -> list[tuple[ListedKey, bool | None]]:
    """Every key, and whether metadata name it; None where the catalog is of another release."""
    from distributor.signing import online_keys
    from distributor.storage import Database, DataFolder, catalog_of, schema_version

    root = _data_folder(data, file)
    keys = _online(root)
    setting = Settings("distributor", file).get("database", database, "")
    catalog = Database(catalog_of(DataFolder(root), setting))
    try:
        has, wanted = schema_version(catalog)
        if has != wanted:
            return [(one, None) for one in keys.all()]
        with catalog.transaction(write=False) as connection:
            return [*online_keys(connection, keys)]
    finally:
        catalog.close()


def _read_public(path: Path) -> SSlibKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        return SSlibKey.from_crypto(load_pem_public_key(path.read_bytes()))
    except OSError as error:
        raise explain_os_error(error, path) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise FormatError(f"{path} is no public key in PEM: {error}") from None


def _shown(key: ListedKey, in_use: bool | None) -> dict[str, Any]:
    return {"role": key.role, "key_id": key.key_id, "uri": key.uri, "in_use": in_use}


def _said(in_use: bool | None) -> str:
    return {True: "yes", False: "no", None: "not known"}[in_use]
