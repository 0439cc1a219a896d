"""A publisher, a distributor and their keys in memory: signed metadata without any process."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from edge_sdk import trust
from edge_sdk.manifest import Assignment, decode_manifest, encode_assignment


def now() -> datetime:
    """This second: metadata know no smaller parts of time."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def new_key() -> CryptoSigner:
    return CryptoSigner.generate_ed25519()


@dataclass
class SignedFleet:
    """``files`` has every metadata file under its name on the wire, old versions too.

    Change ``at`` to sign in another time, a key to rotate it (then call ``rotate``).
    """

    namespaces: Sequence[str] = ("team",)
    at: datetime = field(default_factory=now)
    root_keys: list[CryptoSigner] = field(default_factory=lambda: [new_key()])
    targets_key: CryptoSigner = field(default_factory=new_key)
    snapshot_key: CryptoSigner = field(default_factory=new_key)
    timestamp_key: CryptoSigner = field(default_factory=new_key)
    assignment_key: CryptoSigner = field(default_factory=new_key)
    publishers: dict[str, CryptoSigner] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    last_snapshot: Metadata[Snapshot] | None = None

    def __post_init__(self) -> None:
        root = trust.new_root(
            root_keys=[key.public_key for key in self.root_keys],
            threshold=len(self.root_keys),
            targets_keys=[self.targets_key.public_key],
            snapshot_key=self.snapshot_key.public_key,
            timestamp_key=self.timestamp_key.public_key,
            now=self.at,
        )
        self.put_root(root, self.root_keys)
        targets = trust.new_targets(assignment_keys=[self.assignment_key.public_key], now=self.at)
        put: list[tuple[str, Metadata[Targets], CryptoSigner]] = []
        for number, namespace in enumerate(self.namespaces):
            key = self.publishers.setdefault(namespace, new_key())
            targets = trust.delegate_namespace(targets, namespace, [key.public_key], now=self.at)
            targets.signed.version = number + 1
            put.append((trust.namespace_role(namespace), trust.new_namespace(now=self.at), key))
        targets.signed.version = 1
        self.put([("targets", targets, self.targets_key), *put])

    @property
    def root(self) -> bytes:
        """The first root: what a factory puts onto a device."""
        return self.files["1.root.json"]

    def newest(self, role: str) -> bytes:
        if role == "timestamp":
            return self.files["timestamp.json"]
        versions = [
            version
            for found, version in map(trust.parse_file_name, self.files)
            if found == role and version is not None
        ]
        return self.files[trust.file_name(role, max(versions))]

    def targets_of(self, role: str = "targets") -> Metadata[Targets]:
        return trust.read(role, self.newest(role), Targets)

    def put_root(self, root: Metadata[Root], signers: Sequence[CryptoSigner]) -> None:
        data = trust.sign(root, signers)
        self.files[trust.file_name("root", root.signed.version)] = data

    def put(self, changed: Sequence[tuple[str, Metadata[Targets], CryptoSigner]]) -> None:
        """Signs documents of targets, then the snapshot and the timestamp over them."""
        versions = {}
        for role, document, key in changed:
            data = trust.sign(document, [key])
            versions[role] = (document.signed.version, data)
            self.files[trust.file_name(role, document.signed.version)] = data
        self.put_snapshot(versions)

    def put_snapshot(self, versions: Mapping[str, tuple[int, bytes]]) -> None:
        """The next snapshot with these documents in it, and a timestamp over it."""
        snapshot = trust.next_snapshot(versions, self.last_snapshot, now=self.at)
        self.last_snapshot = copy.deepcopy(snapshot)
        self.change_snapshot(snapshot)
        data = trust.sign(snapshot, [self.snapshot_key])
        self.files[trust.file_name("snapshot", snapshot.signed.version)] = data
        self.put_timestamp((snapshot.signed.version, data))

    def change_snapshot(self, snapshot: Metadata[Snapshot]) -> None:
        """For attackers: before it is signed."""

    def put_timestamp(self, snapshot: tuple[int, bytes]) -> None:
        known = self.files.get("timestamp.json")
        old = None if known is None else trust.read("timestamp", known, Timestamp)
        new = trust.next_timestamp(snapshot, old, now=self.at)
        self.files["timestamp.json"] = trust.sign(new, [self.timestamp_key])

    def publish(self, manifest: bytes, *, floor: str | None = None) -> str:
        """Signs an artifact into its namespace; answers with its target path."""
        said = decode_manifest(manifest)
        namespace = said.model.namespace
        path = trust.target_path(said.model, said.version, said.variant)
        first = self.targets_of(trust.namespace_role(namespace))
        role = trust.holder(namespace, first.signed, path)
        custom = {} if floor is None else {"floor": floor}
        new = trust.add_target(self.targets_of(role), path, manifest, custom, now=self.at)
        if new is not None:
            self.put([(role, new, self.publishers[namespace])])
        return path

    def unpublish(self, manifest: bytes) -> None:
        """Its publisher signs it no more."""
        said = decode_manifest(manifest)
        path = trust.target_path(said.model, said.version, said.variant)
        role = trust.namespace_role(said.model.namespace)
        signed = self.targets_of(role)
        document = trust.edited(signed, expires=signed.signed.expires)
        del document.signed.targets[path]
        self.put([(role, document, self.publishers[said.model.namespace])])

    def assign(self, assignment: Assignment) -> bytes:
        """The signed envelope of an assignment."""
        return trust.seal_assignment(encode_assignment(assignment), self.assignment_key)
