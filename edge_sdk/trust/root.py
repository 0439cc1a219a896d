"""The root: which keys sign which role of the top level."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Role, Root

from edge_sdk.base import RefusedError
from edge_sdk.trust.documents import LONG, check_signatures, check_successor, edited, read
from edge_sdk.trust.key_files import check_distinct
from edge_sdk.trust.names import ROOT, SNAPSHOT, TARGETS, TIMESTAMP


def new_root(
    *,
    root_keys: Sequence[Key],
    threshold: int,
    targets_keys: Sequence[Key],
    snapshot_key: Key,
    timestamp_key: Key,
    now: datetime,
    targets_threshold: int = 1,
) -> Metadata[Root]:
    """Version 1, to be signed by ``threshold`` of ``root_keys``.

    Raises: RefusedError (a key twice, a threshold that cannot be met).
    """
    root = Root(version=1, expires=now + LONG, consistent_snapshot=True)
    _give(root, ROOT, root_keys, threshold)
    _give(root, TARGETS, targets_keys, targets_threshold)
    _give(root, SNAPSHOT, [snapshot_key], 1)
    _give(root, TIMESTAMP, [timestamp_key], 1)
    return Metadata(root)


def with_keys(
    document: Metadata[Root], role: str, keys: Sequence[Key], threshold: int, now: datetime
) -> Metadata[Root]:
    """The next root, in which ``keys`` and no others answer for ``role``.

    Raises: RefusedError.
    """
    new = edited(document, expires=now + LONG)
    for keyid in tuple(new.signed.roles[role].keyids):
        new.signed.revoke_key(keyid, role)
    _give(new.signed, role, keys, threshold)
    return new


def verify_root(data: bytes, old: Metadata[Root] | None) -> Metadata[Root]:
    """The root that ``data`` is: signed as itself and as ``old`` demand, and its successor.

    Raises: FormatError, TrustError, RefusedError (a key twice, a role without enough keys).
    """
    new = read(ROOT, data, Root)
    for name, role in new.signed.roles.items():
        keys = [new.signed.keys[keyid] for keyid in role.keyids if keyid in new.signed.keys]
        _check(name, keys, role.threshold)
    check_successor(ROOT, new, old)
    if old is not None:
        check_signatures(ROOT, new, by=old)
    check_signatures(ROOT, new, by=new)
    return new


def keys_of(root: Root, role: str) -> tuple[Key, ...]:
    """The keys that answer for a role of the top level."""
    return tuple(root.keys[keyid] for keyid in root.roles[role].keyids)


def _give(root: Root, role: str, keys: Sequence[Key], threshold: int) -> None:
    _check(role, keys, threshold)
    root.roles[role] = Role([], threshold)
    for key in keys:
        root.add_key(key, role)


def _check(role: str, keys: Collection[Key], threshold: int) -> None:
    check_distinct(keys)
    if not 1 <= threshold <= len(keys):
        raise RefusedError(
            f"{role} has {len(keys)} keys, of which {threshold} must sign: that cannot be met"
        )
