"""Signs one artifact into its namespace, or into the bin that its path hashes to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Targets

from edge_sdk.base import TrustError, Version
from edge_sdk.fleet.repository import File, Keys, Repository, signers_for
from edge_sdk.manifest import Manifest
from edge_sdk.trust import (
    LONG,
    add_target,
    bin_roles,
    delegated_keys,
    edited,
    file_name,
    floors_in,
    holder,
    is_full,
    namespace_role,
    new_namespace,
    repeat_floors,
    sign,
    split,
    target_path,
)


def sign_target(
    repository: Repository,
    keys: Keys,
    manifest: Manifest,
    document: bytes,
    *,
    floor: Version | None,
    at: datetime,
) -> list[File]:
    """The metadata files to put, so that ``document`` (the manifest's bytes) is a target; none
    where it is one already.

    Raises: RefusedError (no key for the namespace), TrustError, ConflictError (the path is
    signed with other content).
    """
    namespace = manifest.model.namespace
    role = namespace_role(namespace)
    path = target_path(manifest.model, manifest.version, manifest.variant)
    custom = {} if floor is None else {"floor": str(floor)}
    first = repository.document(role, repository.targets) or _none_yet(at)
    own = holder(namespace, first.signed, path)
    held = first if own == role else _bin(repository, own, first)
    new = add_target(held, path, document, custom, now=at)
    if new is None:
        return []
    changed: Mapping[str, Metadata[Targets]] = {own: new}
    if own != role and _is_raised(first, manifest, floor):
        assert floor is not None
        parent = edited(first, expires=at + LONG)  # what devices see, whichever bin they ask for
        repeat_floors(parent.signed, {str(manifest.model): floor})
        changed = {role: parent, own: new}
    if is_full(new.signed):
        changed = _split(repository, namespace, first, changed, at)
    return _signed(repository, keys, role, changed)


def check_signers(repository: Repository, keys: Keys, namespace: str) -> None:
    """Raises: RefusedError (no key for the namespace), TrustError (wrong passphrase, or nobody
    answers for the namespace), UsageError (no passphrase)."""
    _signers(repository, keys, namespace_role(namespace))


def _is_raised(first: Metadata[Targets], manifest: Manifest, floor: Version | None) -> bool:
    known = floors_in([first.signed]).get(str(manifest.model))
    return floor is not None and (known is None or floor > known)


def _split(
    repository: Repository,
    namespace: str,
    first: Metadata[Targets],
    changed: Mapping[str, Metadata[Targets]],
    at: datetime,
) -> dict[str, Metadata[Targets]]:
    """All documents of the namespace, in twice as many bins.

    The versions of what changed rise once, though it was edited twice.
    """
    role = namespace_role(namespace)
    named, threshold = delegated_keys(repository.targets.signed, role)
    bins = {one: _bin(repository, one, first) for one in bin_roles(first.signed)}
    for name, document in changed.items():
        document.signed.version -= 1
        if name == role:
            first = document
        else:
            bins[name] = document
    parent, parts = split(namespace, first, bins, list(named), threshold=threshold, now=at)
    return {role: parent, **parts}


def _signed(
    repository: Repository, keys: Keys, role: str, changed: Mapping[str, Metadata[Targets]]
) -> list[File]:
    """The namespace's keys sign its document and its bins alike."""
    signers = _signers(repository, keys, role)
    return [
        (file_name(name, document.signed.version), sign(document, signers))
        for name, document in changed.items()
    ]


def _signers(repository: Repository, keys: Keys, role: str) -> list[Signer]:
    named, threshold = delegated_keys(repository.targets.signed, role)
    return signers_for(keys, role, [one.keyid for one in named], threshold)


def _bin(repository: Repository, name: str, first: Metadata[Targets]) -> Metadata[Targets]:
    found = repository.document(name, first)
    if found is None:
        raise TrustError(f"the snapshot does not name {name}, into which targets belong")
    return found


def _none_yet(at: datetime) -> Metadata[Targets]:
    """The namespace of which no document was put yet: what is added makes it version 1."""
    empty = new_namespace(now=at)
    empty.signed.version = 0
    return empty
