"""An artifact is signed into its namespace's document, or into its bin."""

from __future__ import annotations

from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Targets

from edge_sdk import trust
from edge_sdk.base import ConflictError, NotFoundError, RefusedError, TrustError, Version
from edge_sdk.fleet.repository import File, Repository
from edge_sdk.fleet.sign_target import sign_target
from edge_sdk.manifest import Manifest
from edge_sdk.trust import delegations
from tests.support.artifacts import ArtifactBytes, make_artifact
from tests.support.trust import SignedFleet, new_key


class Held:
    """Keys in memory."""

    def __init__(self, **keys: CryptoSigner) -> None:
        self.keys = keys

    def signers(self, role: str, key_ids: list[str]) -> list[Signer]:
        key = self.keys.get(role)
        return [key] if key is not None and key.public_key.keyid in key_ids else []

    def root(self) -> bytes | None:
        return None


def artifact_of(version: str, data: bytes = b"model") -> ArtifactBytes:
    return make_artifact({"m.bin": data}, version=version)


class Publisher:
    """Signs, and keeps what it signed in ``fleet``, as a distributor would."""

    def __init__(self, fleet: SignedFleet) -> None:
        self.fleet = fleet
        self.keys = Held(ns_team=fleet.publishers["team"])

    def sign(self, manifest: Manifest, document: bytes, floor: str | None = None) -> list[File]:
        return sign_target(
            Repository(self.get, self.fleet.root, self.fleet.at),
            self.keys,
            manifest,
            document,
            floor=None if floor is None else Version.parse(floor),
            at=self.fleet.at,
        )

    def publish(self, version: str, **facts: str) -> list[str]:
        artifact = artifact_of(version)
        files = self.sign(artifact.manifest, artifact.document, **facts)
        changed = {}
        for name, data in files:
            role, number = trust.parse_file_name(name)
            assert number is not None
            assert number == trust.read(role, data, Targets).signed.version
            self.fleet.files[name] = data
            changed[role] = (number, data)
        self.fleet.put_snapshot(changed)
        return [name for name, _ in files]

    def get(self, name: str) -> bytes:
        if name not in self.fleet.files:
            raise NotFoundError(f"no {name}")
        return self.fleet.files[name]


@pytest.fixture
def publisher() -> Publisher:
    return Publisher(SignedFleet())


def test_a_target(publisher: Publisher) -> None:
    """The next version of the namespace's document has the manifest as a target, with its floor;
    signing the very same again changes nothing."""
    assert publisher.publish("1.0.0", floor="0.9.0") == ["2.ns_team.json"]
    document = publisher.fleet.targets_of("ns_team").signed
    target = document.targets["team/digits/1.0.0/fp32.json"]
    assert target.hashes == {"sha256": str(artifact_of("1.0.0").artifact)}
    assert target.custom == {"floor": "0.9.0"}
    assert publisher.publish("1.0.0", floor="0.9.0") == []


def test_other_content_under_a_signed_path(publisher: Publisher) -> None:
    """What is signed stays what it is."""
    publisher.publish("1.0.0")
    other = artifact_of("1.0.0", b"other")
    with pytest.raises(ConflictError, match="other content"):
        publisher.sign(other.manifest, other.document)


def test_without_the_key(publisher: Publisher) -> None:
    """A publisher without the namespace's key is told which key is needed."""
    publisher.keys = Held(ns_team=new_key(), ns_lab=publisher.fleet.publishers["team"])
    needed = publisher.fleet.publishers["team"].public_key.keyid
    artifact = artifact_of("1.0.0")
    with pytest.raises(RefusedError, match=f"ns_team needs 1 signatures of the keys {needed}"):
        publisher.sign(artifact.manifest, artifact.document)


def test_a_namespace_that_is_not_delegated(publisher: Publisher) -> None:
    """Nobody can sign where the targets name nobody."""
    made = make_artifact({"m.bin": b"x"}, model="lab/digits")
    with pytest.raises(TrustError, match="do not delegate to ns_lab"):
        publisher.sign(made.manifest, made.document)


def test_the_first_document_of_a_namespace() -> None:
    """A namespace that was delegated without a document gets version 1 with its first target."""
    fleet = SignedFleet()
    key = new_key()
    targets = trust.delegate_namespace(fleet.targets_of(), "lab", [key.public_key], now=fleet.at)
    fleet.put([("targets", targets, fleet.targets_key)])
    publisher = Publisher(fleet)
    publisher.keys = Held(ns_lab=key)
    made = make_artifact({"m.bin": b"x"}, model="lab/digits")
    ((name, data),) = publisher.sign(made.manifest, made.document)
    assert name == "1.ns_lab.json"
    assert trust.read("ns_lab", data, Targets).signed.version == 1


def test_a_document_that_is_full_is_split(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace with many targets is spread over bins, and over more when those are full; each
    time every version rises by one and every target stays."""
    monkeypatch.setattr(delegations, "TARGETS_IN_ROLE_MAX", 3)
    counts = []
    for number in range(24):
        publisher.publish(f"1.{number}.0")
        parent = publisher.fleet.targets_of("ns_team").signed
        counts.append(len(trust.bin_roles(parent)))
    assert counts[:4] == [0, 0, 0, 4]
    assert counts[-1] >= 8
    parent = publisher.fleet.targets_of("ns_team").signed
    found = set()
    for name in trust.bin_roles(parent):
        found |= set(publisher.fleet.targets_of(name).signed.targets)
    assert found == {f"team/digits/1.{number}.0/fp32.json" for number in range(24)}


def test_floors_are_repeated_where_every_device_looks(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the document of a namespace with bins: those from before it was split, and each that
    rises later; one that does not rise changes only its bin."""
    monkeypatch.setattr(delegations, "TARGETS_IN_ROLE_MAX", 3)

    def floor() -> str:
        parent = publisher.fleet.targets_of("ns_team").signed
        return str(trust.floors_in([parent]).get("team/digits"))

    publisher.publish("1.0.0", floor="0.5.0")
    for number in range(1, 6):
        publisher.publish(f"1.{number}.0")
    assert floor() == "0.5.0"
    changed = publisher.publish("1.6.0", floor="1.2.0")
    assert any(".ns_team." in name for name in changed)
    assert floor() == "1.2.0"
    assert not any(".ns_team." in name for name in publisher.publish("1.6.0", floor="1.1.0"))
    for number in range(7, 30):
        publisher.publish(f"1.{number}.0")
    assert floor() == "1.2.0"


def test_a_bin_that_is_missing(publisher: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the snapshot does not name the bin of a path, nothing is signed."""
    parent, _ = trust.split(
        "team",
        publisher.fleet.targets_of("ns_team"),
        {},
        [publisher.fleet.publishers["team"].public_key],
        now=publisher.fleet.at + timedelta(0),
    )
    publisher.fleet.put([("ns_team", parent, publisher.fleet.publishers["team"])])
    artifact = artifact_of("1.0.0")
    with pytest.raises(TrustError, match="does not name bin_team"):
        publisher.sign(artifact.manifest, artifact.document)
