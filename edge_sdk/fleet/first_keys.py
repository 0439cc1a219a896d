"""The embedded beginning: one person's root, targets and publisher keys, 1 of 1 each.

What is made here can be changed later by ceremonies without any device noticing. It can be run
again after it broke off anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from securesystemslib.signer import Key
from tuf.api.metadata import Metadata, Root, Targets

from edge_sdk.base import ConflictError, EdgeError, NotFoundError, RefusedError, UsageError
from edge_sdk.fleet.key_folder import KeyFolder
from edge_sdk.fleet.metadata import MetadataClient
from edge_sdk.fleet.repository import File, now, signers_for
from edge_sdk.trust import (
    ASSIGNMENTS,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    delegate_namespace,
    file_name,
    namespace_role,
    new_namespace,
    new_root,
    new_targets,
    sign,
    verify_root,
)

T = TypeVar("T", Root, Targets)


def begin(metadata: MetadataClient, keys: KeyFolder, namespaces: Sequence[str]) -> bytes:
    """Makes what is missing of the keys, and the first metadata; the root that devices need.

    Raises: ConflictError (the distributor has metadata of somebody else), UsageError, ...
    """
    if not namespaces:
        raise UsageError("name at least one namespace, such as team")
    roles = [namespace_role(one) for one in namespaces]
    there = _first_root(metadata)
    if there is None:
        online = _newest_online(metadata)
        _make(keys, [ROOT, TARGETS, *roles])
        there = _put_first(metadata, keys, namespaces, online)
    elif not _is_ours(there, keys):
        raise ConflictError(
            "the distributor has signed metadata already, by other keys; to publish there, get a "
            "namespace from whoever holds them"
        )
    keys.trust_root(there)
    return there


def _first_root(metadata: MetadataClient) -> bytes | None:
    try:
        return metadata.get(file_name(ROOT, 1))
    except NotFoundError:
        return None


def _newest_online(metadata: MetadataClient) -> dict[str, Key]:
    """The distributor's own keys by role, the newest of each."""
    found = {one.role: one.public for one in metadata.online_keys()}
    missing = {SNAPSHOT, TIMESTAMP, ASSIGNMENTS} - set(found)
    if missing:
        raise RefusedError(
            f"the distributor has no key for {', '.join(sorted(missing))}: edge-distributor keys"
        )
    return found


def _make(keys: KeyFolder, roles: Sequence[str]) -> None:
    for role in roles:
        if not (keys.exists() and keys.public(role)):
            keys.create(role)


def _is_ours(root: bytes, keys: KeyFolder) -> bool:
    """Whether our keys signed it: an answer that was lost, or a folder that lost its root."""
    try:
        document = verify_root(root, None)
        known = {one.key_id for one in keys.all() if one.role == ROOT}
    except EdgeError:
        return False
    return bool(known & set(document.signed.roles[ROOT].keyids))


def _put_first(
    metadata: MetadataClient, keys: KeyFolder, namespaces: Sequence[str], online: dict[str, Key]
) -> bytes:
    at = now()
    root = new_root(
        root_keys=keys.public(ROOT)[-1:],
        threshold=1,
        targets_keys=keys.public(TARGETS)[-1:],
        snapshot_key=online[SNAPSHOT],
        timestamp_key=online[TIMESTAMP],
        now=at,
    )
    targets = new_targets(assignment_keys=[online[ASSIGNMENTS]], now=at)
    for one in namespaces:
        own = keys.public(namespace_role(one))[-1:]
        targets = delegate_namespace(targets, one, own, now=at)
    targets.signed.version = 1
    signed_root = _signed(keys, ROOT, root)
    empty = [_signed(keys, namespace_role(one), new_namespace(now=at)) for one in namespaces]
    metadata.put([signed_root, _signed(keys, TARGETS, targets), *empty])
    return signed_root[1]


def _signed(keys: KeyFolder, role: str, document: Metadata[T]) -> File:
    key_ids = [keys.public(role)[-1].keyid]
    data = sign(document, signers_for(keys, role, key_ids, 1))
    return file_name(role, document.signed.version), data
