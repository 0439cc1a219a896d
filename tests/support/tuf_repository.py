"""A repository in memory that does what a test says, right or wrong.

``SignedFleet`` (trust.py) signs as this project does; here any role can have any keys, any
version and any delegation, so that a client can be shown whatever an attacker would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.ngclient.fetcher import FetcherInterface

METADATA_URL = "http://repository/metadata/"
TARGETS_URL = "http://repository/targets/"
_ONLINE = ("snapshot", "timestamp")


def days(number: float) -> datetime:
    """From now."""
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=number)


class Repository:
    """``roles`` holds what is signed next, ``keys`` who signs it, ``served`` what a client gets.

    ``asked`` lists the names that were asked for, with versions as on the wire.
    """

    def __init__(self, *, hashes: bool = False) -> None:
        self.hashes = hashes
        self.served: dict[str, bytes] = {}
        self.artifacts: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.keys: dict[str, list[CryptoSigner]] = {}
        self.roles: dict[str, Any] = {
            "root": Root(expires=days(30)),
            "timestamp": Timestamp(expires=days(30)),
            "snapshot": Snapshot(expires=days(30)),
            "targets": Targets(expires=days(30)),
        }
        for role in self.roles:
            self.add_key(role)
        self.publish("targets", "snapshot", "timestamp", "root", bump=False)

    # -- who signs -----------------------------------------------------------------------

    def add_key(self, role: str, signer: CryptoSigner | None = None, *, by: str = "root") -> None:
        signer = signer or CryptoSigner.generate_ed25519()
        self.roles[by].add_key(signer.public_key, role)
        self.keys.setdefault(role, []).append(signer)

    def rotate(self, role: str) -> None:
        """One new key instead of those before; publish the root to say so."""
        self.roles["root"].roles[role].keyids.clear()
        self.keys[role].clear()
        self.add_key(role)

    def delegate(
        self,
        by: str,
        role: str,
        paths: Sequence[str] = ("*",),
        *,
        terminating: bool = False,
    ) -> None:
        """``by`` delegates to ``role``, with a key of its own for each delegation."""
        delegator = self.roles[by]
        delegator.delegations = delegator.delegations or Delegations({}, roles={})
        delegated = DelegatedRole(role, [], 1, terminating, list(paths))
        delegator.delegations.roles[role] = delegated
        self.add_key(role, by=by)
        self.roles.setdefault(role, _unpublished())

    def delegate_bins(self, by: str, prefix: str, bits: int) -> None:
        signer = CryptoSigner.generate_ed25519()
        succinct = SuccinctRoles([], 1, bits, prefix)
        self.roles[by].delegations = Delegations({}, succinct_roles=succinct)
        self.roles[by].add_key(signer.public_key)
        for role in succinct.get_roles():
            self.keys[role] = [signer]
            self.roles[role] = _unpublished()

    # -- what is there -------------------------------------------------------------------

    def add(self, path: str, data: bytes, role: str = "targets", *, by: str = "sha256") -> None:
        """A target; publish its role to say so."""
        target = TargetFile.from_data(path, data, [by])
        self.roles[role].targets[path] = target
        folder, slash, name = path.rpartition("/")
        self.artifacts[f"{folder}{slash}{target.hashes[by]}.{name}"] = data

    def publish(self, *roles: str, bump: bool = True) -> None:
        """Signs and serves; what delegates to them or lists them has to be published after."""
        for role in roles:
            signed = self.roles[role]
            signed.version += 1 if bump else 0
            document = Metadata(signed)
            for signer in self.keys[role]:
                document.sign(signer, append=True)
            self.serve(role, signed.version, document.to_bytes())

    def serve(self, role: str, version: int, data: bytes) -> None:
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        self.served[name] = data
        meta = MetaFile(version)
        if self.hashes:
            meta = MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})
        if role == "snapshot":
            self.roles["timestamp"].snapshot_meta = meta
        elif role not in ("root", "timestamp"):
            self.roles["snapshot"].meta[f"{role}.json"] = meta

    def release(self, *roles: str) -> None:
        """Those roles, and the snapshot and timestamp over them."""
        self.publish(*roles, *_ONLINE)

    def resign(self, name: str, signers: Sequence[CryptoSigner]) -> None:
        """Serves a file with other signatures, its content as it was."""
        document: Metadata[Any] = Metadata.from_bytes(self.served[name])
        document.signatures.clear()
        for signer in signers:
            document.sign(signer, append=True)
        self.served[name] = document.to_bytes()


def _unpublished() -> Targets:
    targets = Targets(expires=days(30))
    targets.version = 0  # publishing makes it 1
    return targets


class RepositoryFetcher(FetcherInterface):
    """Serves a repository under the two URLs above."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def _fetch(self, url: str) -> Iterator[bytes]:
        metadata = url.startswith(METADATA_URL)
        name = unquote(url.removeprefix(METADATA_URL if metadata else TARGETS_URL))
        self.repository.asked.append(name)
        found = (self.repository.served if metadata else self.repository.artifacts).get(name)
        if found is None:
            raise DownloadHTTPError(name, 404)
        return iter([found])
