"""The embedded beginning: one person's root, targets and publisher keys, 1 of 1 each.

What is made here can be changed later by ceremonies without any device noticing. It can be run
again after it broke off anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from securesystemslib.signer import Key

from edge_sdk.base import ConflictError, EdgeError, NotFoundError, UsageError
from edge_sdk.fleet.ceremony import Signers, draft_first
from edge_sdk.fleet.key_folder import KeyFolder
from edge_sdk.fleet.metadata import MetadataClient
from edge_sdk.fleet.repository import now
from edge_sdk.trust import (
    ROOT,
    TARGETS,
    file_name,
    namespace_role,
    verify_root,
)


def begin(metadata: MetadataClient, keys: KeyFolder, namespaces: Sequence[str]) -> bytes:
    """Makes what is missing of the keys, and the first metadata; the root that devices need.

    Raises: ConflictError (the distributor has metadata of somebody else), UsageError, ...
    """
    if not namespaces:
        raise UsageError("name at least one namespace, such as team")
    roles = [namespace_role(one) for one in namespaces]
    there = _first_root(metadata)
    if there is None:
        online = metadata.newest_online()
        _make(keys, [ROOT, TARGETS, *roles])
        there = _put_first(metadata, keys, namespaces, online)
    elif not _is_ours(there, keys):
        raise ConflictError(
            "the distributor has signed metadata already, by other keys; to publish there, get a "
            "namespace from whoever holds them"
        )
    keys.trust_root(there)
    _check_delegated(metadata, keys, namespaces)
    return there


def _check_delegated(metadata: MetadataClient, keys: KeyFolder, namespaces: Sequence[str]) -> None:
    """Raises: ConflictError where the beginning was another one."""
    delegations = metadata.repository(keys).targets.signed.delegations
    known = {} if delegations is None else delegations.roles or {}
    missing = [one for one in namespaces if namespace_role(one) not in known]
    if missing:
        name = missing[0]
        raise ConflictError(
            f"the distributor has signed metadata already, without namespace {name}; to add it: "
            f"edge-fleet keys create {name}, keys export {name} -o FILE, keys draft targets "
            f"--namespace {name}=FILE -o FOLDER, keys sign FOLDER, keys submit FOLDER"
        )


def _first_root(metadata: MetadataClient) -> bytes | None:
    try:
        return metadata.get(file_name(ROOT, 1))
    except NotFoundError:
        return None


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
    metadata: MetadataClient, keys: KeyFolder, namespaces: Sequence[str], online: Mapping[str, Key]
) -> bytes:
    drafted = draft_first(
        online,
        root=Signers(keys=keys.public(ROOT)[-1:]),
        targets=Signers(keys=keys.public(TARGETS)[-1:]),
        namespaces={one: Signers(keys=keys.public(namespace_role(one))[-1:]) for one in namespaces},
        now=now(),
    )
    files = drafted.signed_by(keys).files()
    metadata.put(files)
    metadata.took(files, drafted.roots)
    return dict(files)[file_name(ROOT, 1)]
