"""Judges what publishers put, as a client of the repository would: pure, nothing is stored.

The rules, in the order of the chain of trust:

* a name and a size that are allowed, before a byte is parsed; the very next version of its role
  (somebody who signed over an older one lost the race: ConflictError);
* a root is signed by the thresholds of the one before it and of itself;
* targets are signed as the newest root demands, hold nothing but delegations, and these are
  namespaces with their own paths and the keys of assignments;
* a namespace is signed as the newest targets demand, holds its own paths only, or bins;
* a bin is signed as its namespace demands and holds what hashes into it; bins change together;
* nothing has expired, and no public key goes by two ids.

A new root must still be satisfied by the targets: clients would refuse everything otherwise.
New targets may take a namespace's key away: its documents then count no more until they are
signed again, which is how a stolen key is stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from tuf.api.metadata import Metadata, Root, SuccinctRoles, Targets

from edge_sdk.base import ConflictError, FormatError, RefusedError, TrustError
from edge_sdk.trust import (
    ASSIGNMENTS,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    bin_prefix,
    bin_roles,
    check_distinct,
    check_signatures,
    check_successor,
    metadata_bytes_max,
    namespace_of,
    namespace_paths,
    namespace_role,
    parse_file_name,
    read,
    verify,
    verify_root,
)

FILES_MAX = 4096  # bins of one namespace that change together, and a few more
_ASSIGNMENT_PATHS = "@assignments/*"

T = TypeVar("T", Root, Targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What the repository has: newest versions by role, and their documents when asked."""

    versions: Mapping[str, int]
    document: Callable[[str], bytes | None]


@dataclass(slots=True, kw_only=True)
class Accepted:
    """What was put, judged good.

    roots: new ones in order. changed: version, bytes and document of every other role that was
    put. dead: roles whose documents no client believes any more.
    """

    root: Metadata[Root]
    targets: Metadata[Targets]
    roots: list[tuple[int, bytes]] = field(default_factory=list)
    changed: dict[str, tuple[int, bytes, Metadata[Targets]]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)


def accept(files: Sequence[tuple[str, bytes]], here: Here, *, now: datetime) -> Accepted:
    """What ``files`` (wire name and bytes) bring.

    Raises: FormatError, TrustError, RefusedError; ConflictError (not the very next version).
    """
    put = _by_role(files)
    roots = put.pop(ROOT, [])
    single = {role: only[0] for role, only in put.items()}
    for role, only in put.items():
        if len(only) > 1:
            raise RefusedError(f"{role} is put twice at once")
    for role, (version, _) in single.items():
        _check_next(role, version, here)
    root = _accept_roots(roots, here, now)
    targets = _accept_targets(root, single, here, now, rooted=bool(roots))
    found = Accepted(root=root, targets=targets, roots=roots)
    if TARGETS in single:
        found.changed[TARGETS] = (*single[TARGETS], targets)
    namespaces = sorted({_namespace(role) for role in single if role != TARGETS})
    for namespace in namespaces:
        _accept_namespace(found, namespace, single, here, now)
    if TARGETS in single or roots:
        _find_dead(found, here, set(namespaces))
    return found


def _by_role(files: Sequence[tuple[str, bytes]]) -> dict[str, list[tuple[int, bytes]]]:
    """Versions and bytes by role, oldest first; sizes are looked at here, contents are not."""
    if not files:
        raise FormatError("there is nothing to put")
    if len(files) > FILES_MAX:
        raise FormatError(f"{len(files)} metadata files at once are more than {FILES_MAX}")
    found: dict[str, list[tuple[int, bytes]]] = {}
    for name, data in files:
        role, version = parse_file_name(name)
        if version is None or role in (SNAPSHOT, TIMESTAMP):
            raise RefusedError(f"{name}: the distributor signs snapshot and timestamp itself")
        limit = metadata_bytes_max(role)
        if len(data) > limit:
            raise FormatError(f"{name} has {len(data)} bytes; at most {limit} are allowed")
        found.setdefault(role, []).append((version, data))
    return {role: sorted(each) for role, each in found.items()}


def _check_next(role: str, version: int, here: Here) -> None:
    """Compare, of compare-and-swap. Raises: ConflictError."""
    newest = here.versions.get(role, 0)
    if version != newest + 1:
        raise ConflictError(
            f"metadata {role} is at version {newest} here, so {version} cannot be next: get the "
            "newest and sign again",
            role=role,
            version=newest,
        )


def _accept_roots(roots: Sequence[tuple[int, bytes]], here: Here, now: datetime) -> Metadata[Root]:
    held = here.document(ROOT)
    root = None if held is None else read(ROOT, held, Root)
    newest = here.versions.get(ROOT, 0)
    for version, data in roots:
        if version != newest + 1:
            _check_next(ROOT, version, Here(versions={ROOT: newest}, document=here.document))
        root = verify_root(data, root)
        if not root.signed.consistent_snapshot:
            raise RefusedError(f"root {version} has no consistent snapshots: clients need them")
        newest = version
    if root is None:
        raise RefusedError("there is no root here yet: put it first, see: edge-fleet keys init")
    if roots:
        _check_fresh(ROOT, root, now)
    return root


def _accept_targets(
    root: Metadata[Root],
    single: Mapping[str, tuple[int, bytes]],
    here: Here,
    now: datetime,
    *,
    rooted: bool,
) -> Metadata[Targets]:
    held = here.document(TARGETS)
    if TARGETS not in single:
        if held is None:
            raise RefusedError("there are no targets here yet: put them together with the root")
        if not rooted:
            return read(TARGETS, held, Targets)
        try:
            return verify(TARGETS, held, Targets, by=root)
        except TrustError:
            raise RefusedError(
                "the new root names other keys for targets: put targets signed by them with it"
            ) from None
    _, data = single[TARGETS]
    targets = verify(TARGETS, data, Targets, by=root)
    old = None if held is None else read(TARGETS, held, Targets)
    check_successor(TARGETS, targets, old)
    _check_fresh(TARGETS, targets, now)
    _check_top(targets.signed)
    return targets


def _check_top(targets: Targets) -> None:
    """The top level delegates, each namespace its own paths, and does nothing else."""
    if targets.targets:
        raise RefusedError("targets of the top level name artifacts: only namespaces may")
    delegations = targets.delegations
    if delegations is None or delegations.roles is None:
        raise RefusedError("targets of the top level delegate to nobody")
    check_distinct(delegations.keys.values())
    if ASSIGNMENTS not in delegations.roles:
        raise RefusedError(f"targets of the top level name no keys for {ASSIGNMENTS}")
    for name, role in delegations.roles.items():
        wanted = _ASSIGNMENT_PATHS if name == ASSIGNMENTS else namespace_paths(_namespace(name))
        if name != ASSIGNMENTS and name != namespace_role(_namespace(name)):
            raise RefusedError(f"targets of the top level delegate to {name}, no namespace")
        if role.paths != [wanted] or not role.terminating:
            raise RefusedError(f"{name} must answer for {wanted} and for nothing else, terminating")
        if not 1 <= role.threshold <= len(role.keyids):
            raise RefusedError(f"{name} has {len(role.keyids)} keys and threshold {role.threshold}")


def _accept_namespace(
    found: Accepted,
    namespace: str,
    single: Mapping[str, tuple[int, bytes]],
    here: Here,
    now: datetime,
) -> None:
    """The document of one namespace and its bins, where they were put."""
    role = namespace_role(namespace)
    held = _held(role, here)
    document = held
    if role in single:
        version, data = single[role]
        document = verify(role, data, Targets, by=found.targets)
        check_successor(role, document, held)
        _check_fresh(role, document, now)
        _check_namespace(namespace, document.signed)
        found.changed[role] = (version, data, document)
    if document is None:
        raise RefusedError(f"{role} has to be put before its bins")
    if role not in single:
        check_signatures(role, document, by=found.targets)
    ours = set(bin_roles(document.signed))
    put = {one for one in single if one not in (TARGETS, role) and _namespace(one) == namespace}
    if put - ours:
        raise RefusedError(f"{role} has no bin {min(put - ours)}")
    for name in sorted(put):
        version, data = single[name]
        accepted = _accept_bin(name, data, here, now, parent=document)
        found.changed[name] = (version, data, accepted)
    if role in single:
        _check_bins_whole(held, document, ours - put, here)


def _accept_bin(
    name: str, data: bytes, here: Here, now: datetime, *, parent: Metadata[Targets]
) -> Metadata[Targets]:
    document = verify(name, data, Targets, by=parent)
    check_successor(name, document, _held(name, here))
    _check_fresh(name, document, now)
    if document.signed.delegations is not None:
        raise RefusedError(f"{name} delegates: a bin only holds targets")
    _check_hashes(parent.signed, name, document.signed.targets)
    return document


def _check_namespace(namespace: str, document: Targets) -> None:
    """Own paths only; bins are all that it may delegate to."""
    role = namespace_role(namespace)
    pattern = namespace_paths(namespace)
    for path in document.targets:
        if path.count("/") != pattern.count("/") or not path.startswith(f"{namespace}/"):
            raise RefusedError(f"{role} has the target {path[:200]!r}, which is not {pattern}")
    if document.delegations is None:
        return
    succinct = document.delegations.succinct_roles
    if succinct is None or succinct.name_prefix != bin_prefix(namespace):
        raise RefusedError(f"{role} delegates: it may only to its bins, {bin_prefix(namespace)}-*")
    if document.targets:
        raise RefusedError(f"{role} has bins and targets of its own: clients look in both")
    check_distinct(document.delegations.keys.values())
    if succinct.number_of_bins > FILES_MAX // 2:
        raise RefusedError(f"{role} has {succinct.number_of_bins} bins: too many for a snapshot")


def _check_bins_whole(
    held: Metadata[Targets] | None,
    document: Metadata[Targets],
    left: Iterable[str],
    here: Here,
) -> None:
    """Bins that were not put with their namespace must still be good below the new document."""
    before = None if held is None else _succinct(held.signed)
    after = _succinct(document.signed)
    for name in sorted(left):
        kept = here.document(name)
        if kept is None or before is None or after is None:
            raise RefusedError(f"{name} is missing: put all bins together")
        if before.bit_length != after.bit_length:
            raise RefusedError(f"{name} was not put: bins are split together")
        try:
            verify(name, kept, Targets, by=document)
        except TrustError:
            raise RefusedError(f"{name} is not signed by its new keys: put it too") from None


def _check_hashes(parent: Targets, name: str, paths: Iterable[str]) -> None:
    succinct = _succinct(parent)
    assert succinct is not None
    for path in paths:
        if succinct.get_role_for_target(path) != name:
            raise RefusedError(f"{path[:200]!r} does not belong into {name}")


def _find_dead(found: Accepted, here: Here, judged: set[str]) -> None:
    """The roles that new targets or a new root leave without enough good signatures."""
    for role in here.versions:
        if role in (ROOT, TARGETS, SNAPSHOT, TIMESTAMP) or _namespace(role) in judged:
            continue
        if role != namespace_role(_namespace(role)):
            continue  # a bin dies with its namespace
        held = _held(role, here)
        assert held is not None
        try:
            check_signatures(role, held, by=found.targets)
        except TrustError:
            found.dead.add(role)
            found.dead.update(bin_roles(held.signed))


def _held(role: str, here: Here) -> Metadata[Targets] | None:
    document = here.document(role)
    return None if document is None else read(role, document, Targets)


def _namespace(role: str) -> str:
    """Of a role that is not of the top level: python-tuf reads no delegation to one of those.

    Raises: FormatError.
    """
    namespace = namespace_of(role)
    assert namespace is not None
    return namespace


def _succinct(document: Targets) -> SuccinctRoles | None:
    return None if document.delegations is None else document.delegations.succinct_roles


def _check_fresh(role: str, document: Metadata[T], now: datetime) -> None:
    if document.signed.is_expired(now):
        raise RefusedError(f"{role} {document.signed.version} expired before it was put")
