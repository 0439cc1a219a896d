"""The signed metadata as a publisher sees them: verified from a root that was trusted before.

Nothing is signed over what did not verify: whoever holds the distributor could otherwise have
a publisher sign what it made up. How a file is fetched is the caller's affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Protocol

from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from edge_sdk.base import NotFoundError, RefusedError, TrustError
from edge_sdk.trust import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    bin_roles,
    file_name,
    namespace_role,
    read,
    verify,
    verify_root,
)

ROOTS_MAX = 4096  # a chain without end is an attack

Get = Callable[[str], bytes]
File = tuple[str, bytes]


class Keys(Protocol):
    """Who can sign: a folder of key files, or anything that answers the same."""

    def signers(self, role: str, key_ids: list[str]) -> list[Signer]: ...

    def root(self) -> bytes | None: ...


def now() -> datetime:
    """This second: metadata know no smaller parts of time."""
    return datetime.now(timezone.utc).replace(microsecond=0)


class Repository:
    """The newest verified metadata, fetched as they are asked for.

    roots: every one from the one that is trusted on, the newest last.
    replacing_root: for a ceremony that ends an expired root; nothing else is signed over one.
    get: a metadata file by its wire name; NotFoundError where there is none.
    """

    def __init__(
        self, get: Get, trusted_root: bytes, at: datetime, *, replacing_root: bool = False
    ) -> None:
        self._get = get
        self.roots = self._chain(trusted_root)
        self.root = self.roots[-1]
        if not replacing_root:
            _check_fresh(ROOT, self.root, at)
        self.timestamp_bytes = get(file_name(TIMESTAMP, 0))
        self.timestamp = verify(TIMESTAMP, self.timestamp_bytes, Timestamp, by=self.root)
        _check_fresh(TIMESTAMP, self.timestamp, at)
        wanted = self.timestamp.signed.snapshot_meta
        self.snapshot_bytes = self._listed(SNAPSHOT, wanted)
        self.snapshot = verify(SNAPSHOT, self.snapshot_bytes, Snapshot, by=self.root)
        if self.snapshot.signed.version != wanted.version:
            raise TrustError("metadata snapshot is not the version that the timestamp names")
        _check_fresh(SNAPSHOT, self.snapshot, at)
        targets = self.document(TARGETS, self.root)
        if targets is None:
            raise TrustError("the snapshot does not name the targets")
        self.targets = targets

    def document(
        self, role: str, delegator: Metadata[Root] | Metadata[Targets]
    ) -> Metadata[Targets] | None:
        """The newest document of ``role``, as ``delegator`` demands it; None where there never
        was one. Raises: TrustError."""
        meta = self.snapshot.signed.meta.get(f"{role}.json")
        if meta is None:
            return None
        document = verify(role, self._listed(role, meta), Targets, by=delegator)
        if document.signed.version != meta.version:
            raise TrustError(f"metadata {role} is not the version that the snapshot names")
        return document

    def documents(self, namespace: str) -> dict[str, Metadata[Targets]]:
        """Every document of a namespace, by role: its own, and its bins; {} where it has none."""
        role = namespace_role(namespace)
        first = self.document(role, self.targets)
        if first is None:
            return {}
        bins = {name: self.document(name, first) for name in bin_roles(first.signed)}
        return {role: first, **{name: one for name, one in bins.items() if one is not None}}

    def _chain(self, trusted: bytes) -> list[Metadata[Root]]:
        """The roots from the one that is trusted to the newest."""
        roots = [read(ROOT, trusted, Root)]
        for _ in range(ROOTS_MAX):
            try:
                data = self._get(file_name(ROOT, roots[-1].signed.version + 1))
            except NotFoundError:
                return roots
            roots.append(verify_root(data, roots[-1]))
        raise TrustError(f"there are more than {ROOTS_MAX} roots after the one that is trusted")

    def _listed(self, role: str, meta: MetaFile) -> bytes:
        """The file that ``meta`` is about: its length and hash before a byte is parsed."""
        data = self._get(file_name(role, meta.version))
        if meta.length is not None and len(data) != meta.length:
            raise TrustError(f"metadata {role} has {len(data)} bytes instead of {meta.length}")
        wanted = (meta.hashes or {}).get("sha256")
        if wanted is not None and hashlib.sha256(data).hexdigest() != wanted:
            raise TrustError(f"metadata {role} is not what the snapshot names")
        return data


def signers_for(
    keys: Keys, role: str, key_ids: list[str], threshold: int, *, listed_as: str | None = None
) -> list[Signer]:
    """Enough signers for ``role``. Raises: RefusedError."""
    found = keys.signers(listed_as or role, key_ids)
    if len(found) < threshold:
        raise RefusedError(
            f"{role} needs {threshold} signatures of the keys {', '.join(sorted(key_ids))}; "
            f"{len(found)} of them are here"
        )
    return found


def _check_fresh(
    role: str, document: Metadata[Root] | Metadata[Snapshot] | Metadata[Timestamp], at: datetime
) -> None:
    if document.signed.is_expired(at):
        mend = {ROOT: "; a new root is signed first: edge-fleet keys draft root"}.get(role, "")
        raise TrustError(f"metadata {role} has expired: nothing is signed over it{mend}")
