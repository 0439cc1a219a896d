"""The targets of the top level, the namespaces that they delegate to, and their hash bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    SuccinctRoles,
    TargetFile,
    Targets,
)

from edge_sdk.base import ConflictError, RefusedError, TrustError
from edge_sdk.trust.documents import LONG, edited
from edge_sdk.trust.floors import floors_in, repeat_floors
from edge_sdk.trust.key_files import check_distinct
from edge_sdk.trust.names import (
    ASSIGNMENT_PATHS,
    ASSIGNMENTS,
    bin_prefix,
    namespace_paths,
    namespace_role,
)

# A role with more targets is split. At 100,000 targets there are 1,024 bins of about 100, and one
# target costs a device 46 KB of snapshot and bin; with larger or smaller bins it costs more.
TARGETS_IN_ROLE_MAX = 192
_FIRST_BITS = 2


def new_targets(*, assignment_keys: Sequence[Key], now: datetime) -> Metadata[Targets]:
    """Version 1 of the top level: no target, and the keys that sign assignments."""
    targets = Targets(version=1, expires=now + LONG, delegations=Delegations({}, {}))
    document = Metadata(targets)
    _delegate(targets, ASSIGNMENTS, ASSIGNMENT_PATHS, assignment_keys, 1)
    return document


def delegate_namespace(
    document: Metadata[Targets],
    namespace: str,
    keys: Sequence[Key],
    *,
    threshold: int = 1,
    now: datetime,
) -> Metadata[Targets]:
    """The next targets, in which ``keys`` and no others answer for ``namespace``.

    Its documents have to be signed again where keys were taken away.
    """
    new = edited(document, expires=now + LONG)
    _delegate(new.signed, namespace_role(namespace), namespace_paths(namespace), keys, threshold)
    return new


def delegate_assignments(
    document: Metadata[Targets], keys: Sequence[Key], *, now: datetime
) -> Metadata[Targets]:
    """The next targets, in which ``keys`` and no others sign assignments."""
    new = edited(document, expires=now + LONG)
    _delegate(new.signed, ASSIGNMENTS, ASSIGNMENT_PATHS, keys, 1)
    return new


def new_namespace(*, now: datetime) -> Metadata[Targets]:
    """Version 1 of a namespace's document: no target yet."""
    return Metadata(Targets(version=1, expires=now + LONG))


def delegated_keys(targets: Targets, role: str) -> tuple[tuple[Key, ...], int]:
    """The keys that answer for ``role``, and how many of them must sign.

    Raises: TrustError where ``targets`` do not delegate to it.
    """
    try:
        found = targets.get_delegated_role(role)
        return tuple(targets.get_key(keyid) for keyid in found.keyids), found.threshold
    except ValueError:
        raise TrustError(f"the signed metadata do not delegate to {role}") from None


def holder(namespace: str, document: Targets, path: str) -> str:
    """The role whose document has, or gets, the target ``path`` of ``namespace``."""
    succinct = _bins(document)
    return namespace_role(namespace) if succinct is None else succinct.get_role_for_target(path)


def bin_roles(document: Targets) -> tuple[str, ...]:
    """The bins that a namespace's targets are spread over; () where it has them itself."""
    succinct = _bins(document)
    return () if succinct is None else tuple(succinct.get_roles())


def add_target(
    document: Metadata[Targets],
    path: str,
    manifest: bytes,
    custom: Mapping[str, Any],
    *,
    now: datetime,
) -> Metadata[Targets] | None:
    """The next document with one more target; None where it is there already, just so.

    Raises: ConflictError where ``path`` is there with other content.
    """
    target = TargetFile.from_data(path, manifest, ["sha256"])
    if custom:
        target.unrecognized_fields["custom"] = dict(custom)
    known = document.signed.targets.get(path)
    if known == target:
        return None
    if known is not None and known.hashes != target.hashes:
        raise ConflictError(f"{path} is signed already, with other content")
    new = edited(document, expires=now + LONG)
    new.signed.targets[path] = target
    return new


def is_full(document: Targets) -> bool:
    """Whether its targets should be split, or split further."""
    return len(document.targets) > TARGETS_IN_ROLE_MAX


def split(
    namespace: str,
    document: Metadata[Targets],
    bins: Mapping[str, Metadata[Targets]],
    keys: Sequence[Key],
    *,
    threshold: int = 1,
    now: datetime,
) -> tuple[Metadata[Targets], dict[str, Metadata[Targets]]]:
    """The namespace's next document and its bins, twice as many as before (four at first).

    bins: every document of ``bin_roles``. All of what is returned has to be signed and put
    together: a target is in no bin otherwise.
    """
    succinct = _bins(document.signed)
    bits = _FIRST_BITS if succinct is None else succinct.bit_length + 1
    new = edited(document, expires=now + LONG)
    everything = dict(document.signed.targets)
    for one in bins.values():
        everything.update(one.signed.targets)
    finer = SuccinctRoles([key.keyid for key in keys], threshold, bits, bin_prefix(namespace))
    repeat_floors(new.signed, floors_in([new.signed, *(one.signed for one in bins.values())]))
    new.signed.targets = {}
    new.signed.delegations = Delegations({key.keyid: key for key in keys}, succinct_roles=finer)
    parts = {role: _next_bin(bins.get(role), now) for role in finer.get_roles()}
    for path, target in everything.items():
        parts[finer.get_role_for_target(path)].signed.targets[path] = target
    return new, parts


def re_signed(
    document: Metadata[Targets], keys: Sequence[Key], threshold: int, *, now: datetime
) -> Metadata[Targets]:
    """The next version of a namespace's document or bin, to be signed by ``keys``, who answer
    for its bins as well from then on."""
    new = edited(document, expires=now + LONG)
    succinct = _bins(new.signed)
    if succinct is not None:
        own = [key.keyid for key in keys]
        same = SuccinctRoles(own, threshold, succinct.bit_length, succinct.name_prefix)
        named = {key.keyid: key for key in keys}
        new.signed.delegations = Delegations(named, succinct_roles=same)
    return new


def _next_bin(old: Metadata[Targets] | None, now: datetime) -> Metadata[Targets]:
    if old is None:
        return new_namespace(now=now)
    new = edited(old, expires=now + LONG)
    new.signed.targets = {}
    return new


def _bins(document: Targets) -> SuccinctRoles | None:
    return None if document.delegations is None else document.delegations.succinct_roles


def _delegate(targets: Targets, role: str, paths: str, keys: Sequence[Key], threshold: int) -> None:
    check_distinct(keys)
    if not 1 <= threshold <= len(keys):
        raise RefusedError(f"{role} has {len(keys)} keys, of which {threshold} must sign")
    delegations = targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    if role in delegations.roles:
        for keyid in tuple(delegations.roles[role].keyids):
            targets.revoke_key(keyid, role)
    delegations.roles[role] = DelegatedRole(role, [], threshold, terminating=True, paths=[paths])
    for key in keys:
        targets.add_key(key, role)
