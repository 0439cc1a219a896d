"""Keys for fleets of tests: real encrypted files, made so that opening them costs nothing."""

from __future__ import annotations

from pathlib import Path

from edge_sdk.fleet import Fleet, KeyFolder, begin

PASSPHRASE = b"of tests"
WORK = 2  # scrypt's cost: none


def key_folder(folder: Path, passphrase: bytes = PASSPHRASE) -> KeyFolder:
    return KeyFolder(folder, lambda _name: passphrase, work=WORK)


def first_keys(address: str, folder: Path, *namespaces: str) -> KeyFolder:
    """Keys for the namespaces, and the first signed metadata of the distributor there."""
    keys = key_folder(folder)
    with Fleet(address, operator="tester") as fleet:
        begin(fleet.metadata, keys, namespaces or ("team",))
    return keys
