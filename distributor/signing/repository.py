"""The repository of signed metadata: takes what publishers sign, and signs what binds it together.

Whatever changes, changes in the caller's transaction: documents, the table of targets, the new
snapshot and the new timestamp over them. Everything is durable together, or nothing is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from sqlalchemy import Connection
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from distributor.signing.accept import Accepted, Here, accept
from distributor.signing.keys import OnlineKeys
from distributor.signing.records import (
    Sealed,
    Target,
    bins_with_targets,
    find_sealed,
    floor_of,
    forget_targets,
    has_targets,
    keep_sealed,
    lock,
    newest,
    replace_targets,
    signed_among,
    stated,
    store,
    versions,
)
from edge_sdk.base import (
    Digest,
    EdgeError,
    FormatError,
    ModelName,
    RefusedError,
    ResourceError,
    TrustError,
    Version,
)
from edge_sdk.trust import (
    ASSIGNMENTS,
    ROOT,
    SNAPSHOT,
    SNAPSHOT_BYTES_MAX,
    TARGETS,
    TIMESTAMP,
    ListedKey,
    bin_roles,
    check_signatures,
    delegated_keys,
    floors_in,
    keys_of,
    namespace_role,
    next_snapshot,
    next_timestamp,
    read,
    seal_assignment,
    sign,
    target_path,
)

# Devices that cannot reach us for a while should still not meet an expired timestamp at once.
RENEW_TIMESTAMP_EVERY = timedelta(hours=1)
_TIMESTAMP_LEFT = timedelta(hours=23)
_SNAPSHOT_LEFT = timedelta(days=3)

T = TypeVar("T", Snapshot, Timestamp)


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """What came of a put. unsigned_roles: namespaces whose documents nobody believes now."""

    roles: tuple[str, ...]
    unsigned_roles: tuple[str, ...]


def put(
    connection: Connection,
    files: Sequence[tuple[str, bytes]],
    keys: OnlineKeys,
    *,
    now: datetime,
    by: str,
) -> Put:
    """Judges ``files`` (wire name and bytes), keeps them, and signs a snapshot over them.

    Raises: FormatError, TrustError, RefusedError (see ``accept``; a target whose artifact is
    not here or differs; keys that are not ours for what we sign), ConflictError (lost a race).
    """
    lock(connection)
    here = Here(versions=versions(connection), document=lambda role: newest(connection, role))
    found = accept(files, here, now=now)
    _check_ours(found, keys)
    at_ms = _ms(now)
    for version, data in found.roots:
        store(connection, ROOT, version, data, at_ms=at_ms, by=by)
    for role, (version, data, _) in found.changed.items():
        store(connection, role, version, data, at_ms=at_ms, by=by)
    _record_targets(connection, found)
    changed = {role: (version, data) for role, (version, data, _) in found.changed.items()}
    _sign_snapshot(connection, found.root, changed, keys, now, anew=bool(found.roots))
    roles = [*([ROOT] if found.roots else []), *found.changed]
    return Put(roles=tuple(sorted(roles)), unsigned_roles=tuple(sorted(found.dead)))


def renew(connection: Connection, keys: OnlineKeys, *, now: datetime) -> bool:
    """Signs a new timestamp where the one here is older than an hour, and a new snapshot where
    that comes near its end; false where nothing was due.

    Raises: RefusedError, TrustError, UsageError (the keys that the root names are not here).
    """
    held = newest(connection, TIMESTAMP)
    if held is None:
        return False
    timestamp = read(TIMESTAMP, held, Timestamp)
    if timestamp.signed.expires - now > _TIMESTAMP_LEFT:
        return False
    lock(connection)
    document = newest(connection, ROOT)
    assert document is not None
    _sign_snapshot(connection, read(ROOT, document, Root), {}, keys, now, anew=False)
    return True


def online_keys(connection: Connection, keys: OnlineKeys) -> list[tuple[ListedKey, bool]]:
    """Every online key, and whether the signed metadata name it."""
    root, targets = newest(connection, ROOT), newest(connection, TARGETS)
    named: set[tuple[str, str]] = set()
    if root is not None:
        signed = read(ROOT, root, Root).signed
        for role in (SNAPSHOT, TIMESTAMP):
            named |= {(role, one.keyid) for one in keys_of(signed, role)}
    if targets is not None:
        signers, _ = delegated_keys(read(TARGETS, targets, Targets).signed, ASSIGNMENTS)
        named |= {(ASSIGNMENTS, one.keyid) for one in signers}
    return [(one, (one.role, one.key_id) in named) for one in keys.all()]


def seal(
    connection: Connection, keys: OnlineKeys, *, device: str, counter: int, document: bytes
) -> bytes:
    """The signed envelope of a device's assignment: the same bytes for the same counter, as long
    as its key counts. ``document`` itself where there are no signed metadata yet.

    Raises: RefusedError (none of the keys that the targets name is ours).
    """
    held = newest(connection, TARGETS)
    if held is None:
        return document
    named, _ = delegated_keys(read(TARGETS, held, Targets).signed, ASSIGNMENTS)
    key_ids = [one.keyid for one in named]
    kept = find_sealed(connection, device)
    if kept is not None and kept.counter == counter and kept.key_id in key_ids:
        return kept.envelope
    signers = keys.signers(ASSIGNMENTS, key_ids)
    if not signers:
        raise _not_ours(ASSIGNMENTS)
    signer = signers[-1]
    envelope = seal_assignment(document, signer)
    made = Sealed(counter=counter, key_id=signer.public_key.keyid, envelope=envelope)
    keep_sealed(connection, device, made)
    return envelope


def check_signed(connection: Connection, named: Mapping[Digest, str]) -> None:
    """Refuses artifacts (with their names for people) that no publisher signed.

    Raises: RefusedError.
    """
    missing = set(named) - signed_among(connection, named)
    if missing:
        names = ", ".join(sorted(named[one] for one in missing))
        raise RefusedError(
            f"{names}: not signed by its publisher, so devices would refuse it; publish it again "
            "with the namespace's key (edge-fleet publish --keys; first keys: edge-fleet keys init)"
        )


def check_floor(connection: Connection, model: ModelName, version: Version) -> None:
    """Refuses what devices would refuse as older than its publisher allows.

    Raises: RefusedError.
    """
    floor = _floor(connection, model)
    if floor is not None and version < floor:
        raise RefusedError(
            f"{model} {version} is below {floor}, the floor that its publisher signed: no device "
            "would install it; roll out a newer version"
        )


def _floor(connection: Connection, model: ModelName) -> Version | None:
    """The highest that a device would find: beside the targets, and repeated in the namespace's
    own document, also for a version that is no target any more."""
    beside = floor_of(connection, model)
    role = namespace_role(model.namespace)
    held = newest(connection, role)
    document = None if held is None else read(role, held, Targets)
    repeated = None if document is None else floors_in([document.signed]).get(str(model))
    return max((one for one in (beside, repeated) if one is not None), default=None)


def _check_ours(found: Accepted, keys: OnlineKeys) -> None:
    """Assignments could not be signed otherwise; snapshot and timestamp show it by themselves."""
    named, threshold = delegated_keys(found.targets.signed, ASSIGNMENTS)
    if threshold != 1 or not keys.signers(ASSIGNMENTS, [one.keyid for one in named]):
        raise _not_ours(ASSIGNMENTS)


def _record_targets(connection: Connection, found: Accepted) -> None:
    """Brings the table of targets to what clients would find now."""
    documents = {role: one for role, (_, _, one) in found.changed.items() if role != TARGETS}
    for role, document in documents.items():
        if role.startswith("ns_"):
            bins = set(bin_roles(document.signed))
            forget_targets(connection, bins_with_targets(connection, role) - bins)
    for role, document in (documents | _come_back(connection, found, documents)).items():
        replace_targets(connection, role, _targets_of(connection, role, document.signed))
    forget_targets(connection, found.dead)


def _come_back(
    connection: Connection, found: Accepted, put_now: Mapping[str, Metadata[Targets]]
) -> dict[str, Metadata[Targets]]:
    """Documents that were put before and whose keys count (again), but have no rows."""
    delegations = found.targets.signed.delegations
    assert delegations is not None
    everywhere = bool(found.roots) or TARGETS in found.changed
    roles = set(delegations.roles or ()) if everywhere else set(put_now)
    missing: dict[str, Metadata[Targets]] = {}

    def look(role: str) -> Metadata[Targets] | None:
        if role in put_now or role in found.dead:
            return put_now.get(role)
        held = newest(connection, role)
        document = None if held is None else read(role, held, Targets)
        if document is not None and not has_targets(connection, role):
            missing[role] = document
        return document

    for role in roles:
        document = look(role)
        for name in () if document is None else bin_roles(document.signed):
            look(name)
    return missing


def _targets_of(connection: Connection, role: str, document: Targets) -> list[Target]:
    """The targets of a document; each must be an artifact that is here, byte for byte.

    Raises: RefusedError, FormatError.
    """
    digests = {path: _digest_of(path, one) for path, one in document.targets.items()}
    here = stated(connection, digests.values())
    found = []
    for path, one in document.targets.items():
        kept = here.get(digests[path])
        if kept is None:
            raise RefusedError(
                f"{path} names an artifact that is not here, or has other bytes: publish it first",
                path=path,
            )
        if target_path(kept.model, kept.version, kept.variant) != path:
            raise RefusedError(
                f"{path} names the artifact of {kept.model} {kept.version} {kept.variant}",
                path=path,
            )
        if one.length != kept.manifest_bytes:
            raise RefusedError(
                f"{path} has {one.length} bytes in the metadata, its manifest "
                f"{kept.manifest_bytes}",
                path=path,
            )
        floor = _floor_in(path, one, kept.version)
        found.append(
            Target(path=path, role=role, artifact=digests[path], model=kept.model, floor=floor)
        )
    return found


def _digest_of(path: str, target: TargetFile) -> Digest:
    try:
        return Digest.parse(target.hashes["sha256"])
    except (KeyError, EdgeError):
        raise FormatError(f"target {path[:200]!r} has no SHA-256") from None


def _floor_in(path: str, target: TargetFile, version: Version) -> Version | None:
    custom = target.unrecognized_fields.get("custom")
    text = custom.get("floor") if isinstance(custom, dict) else None
    if text is None:
        return None
    floor = Version.parse(text) if isinstance(text, str) else None
    if floor is None or floor > version:
        raise FormatError(f"{path} has the floor {str(text)[:80]!r}: no version up to its own")
    return floor


def _sign_snapshot(
    connection: Connection,
    root: Metadata[Root],
    changed: Mapping[str, tuple[int, bytes]],
    keys: OnlineKeys,
    now: datetime,
    *,
    anew: bool,
) -> None:
    """A new snapshot where something changed or the old one nears its end (``anew``: also where
    its keys may have changed), and a new timestamp in any case."""
    held = newest(connection, SNAPSHOT)
    old = None if held is None else read(SNAPSHOT, held, Snapshot)
    if old is None or held is None or changed or anew or old.signed.expires - now < _SNAPSHOT_LEFT:
        document = next_snapshot(changed, old, now=now)
        data = _signed(SNAPSHOT, document, keys, root)
        if len(data) > SNAPSHOT_BYTES_MAX:
            raise ResourceError(
                f"the snapshot would have {len(data)} bytes, more than clients take: there are "
                "too many namespaces or bins"
            )
        version = document.signed.version
        store(connection, SNAPSHOT, version, data, at_ms=_ms(now), by="")
    else:
        version, data = old.signed.version, held
    before = newest(connection, TIMESTAMP)
    earlier = None if before is None else read(TIMESTAMP, before, Timestamp)
    timestamp = next_timestamp((version, data), earlier, now=now)
    signed = _signed(TIMESTAMP, timestamp, keys, root)
    store(connection, TIMESTAMP, timestamp.signed.version, signed, at_ms=_ms(now), by="")


def _signed(role: str, document: Metadata[T], keys: OnlineKeys, root: Metadata[Root]) -> bytes:
    """What we sign must be what the root demands, or no client would take anything more."""
    data = sign(document, keys.signers(role, root.signed.roles[role].keyids))
    try:
        check_signatures(role, read(role, data, type(document.signed)), by=root)
    except TrustError:
        raise _not_ours(role) from None
    return data


def _not_ours(role: str) -> RefusedError:
    return RefusedError(
        f"the signed metadata name keys for {role} that this distributor does not have; its own "
        "are: edge-distributor keys list",
        role=role,
    )


def _ms(now: datetime) -> int:
    return int(now.timestamp() * 1000)
