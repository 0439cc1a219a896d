"""What any client does: which files it asks for, which it keeps, which it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, MetaFile, Root, Targets

from tests.support.metadata_client import ClientRig
from tests.support.tuf_repository import Repository, days

FRESH = {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
ASKED = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]


def changed(data: bytes, change: Any) -> bytes:
    document = json.loads(data)
    change(document)
    return json.dumps(document).encode()


def test_basic_refresh_requests(client: ClientRig) -> None:
    """Four files, in order; the second time only what may be newer."""
    client.refresh()
    assert client.repository.asked == ASKED
    client.refresh()
    assert client.repository.asked == ASKED[:2]


def test_basic_refresh_trusted_data(client: ClientRig) -> None:
    """What was verified lies in the folder, under names without a version."""
    client.refresh()
    assert client.trusted() == FRESH
    client.repository.release("targets")
    client.refresh()
    assert client.trusted() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}


def test_implicit_refresh(client: ClientRig) -> None:
    """A download looks for newer metadata first, also where there is no such target."""
    assert client.download("nothing of that name") is None
    assert client.repository.asked == ASKED
    assert client.trusted() == FRESH


@pytest.mark.parametrize("broken", [b"", b"{}", b"[" * 2000, b"\0" * 400, b'{"signed": {}}'])
def test_invalid_initial_root(client: ClientRig, broken: bytes) -> None:
    """Where trust begins with nothing, nothing is asked for."""
    client.init(broken)
    assert client.refused() == ("DeserializationError" if broken else "factory root")
    assert client.repository.asked == []


def test_initial_root_without_version(client: ClientRig) -> None:
    """A root without a version is none."""
    root = client.repository.served["1.root.json"]
    client.init(changed(root, lambda said: said["signed"].pop("version")))
    assert client.refused() == "DeserializationError"
    assert client.repository.asked == []


def test_unsigned_initial_root(client: ClientRig) -> None:
    """Nor is one that its own keys did not sign."""
    root = client.repository.served["1.root.json"]
    client.init(changed(root, lambda said: said["signatures"][0].update(sig="00" * 64)))
    assert client.refused() == "UnsignedMetadataError"
    assert client.repository.asked == []


@pytest.mark.parametrize(
    ("role", "kept"),
    [
        ("root", {}),
        ("timestamp", {"root": 1}),
        ("snapshot", {"root": 1, "timestamp": 2}),
        ("targets", {"root": 1, "timestamp": 2, "snapshot": 2}),
    ],
)
def test_unsigned_metadata(client: ClientRig, role: str, kept: dict[str, int]) -> None:
    """A role that nobody signed is refused; those verified before it are kept."""
    repository = client.repository
    if role == "root":
        repository.publish("root")
    else:
        repository.release("targets")
    name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
    repository.resign(name, [])
    assert client.refused() == "UnsignedMetadataError"
    assert client.trusted() == (kept or {"root": 1})


@pytest.mark.parametrize("role", ["root", "snapshot", "targets"])
def test_url_and_metadata_version_mismatch(client: ClientRig, role: str) -> None:
    """A file that says another version than its name is refused."""
    repository = client.repository
    client.refresh()
    roles = ["root"] if role == "root" else ["targets", "snapshot", "timestamp"]
    repository.publish(*roles)
    repository.roles[role].version += 5
    document = Metadata(repository.roles[role])
    for signer in repository.keys[role]:
        document.sign(signer, append=True)
    repository.served[f"2.{role}.json"] = document.to_bytes()
    assert client.refused() == "BadVersionNumberError"
    assert client.trusted()[role] == 1


def test_timestamp_content_changes(client: ClientRig) -> None:
    """The same version with other bytes: the client keeps its own."""
    client.refresh()
    before = client.kept("timestamp")
    client.repository.roles["timestamp"].snapshot_meta.version = 100
    client.repository.publish("timestamp", bump=False)
    assert client.refused() == ""
    assert client.kept("timestamp") == before


def test_basic_metadata_hash_support(tmp_path: Path) -> None:
    """Lengths and hashes of metadata are checked, and may change with each version."""
    client = ClientRig(tmp_path, Repository(hashes=True))
    client.refresh()
    client.repository.release("targets")
    client.refresh()
    assert client.trusted() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 2}


@pytest.mark.parametrize("role", ["targets", "snapshot"])
def test_hash_mismatch(tmp_path: Path, role: str) -> None:
    """targets_hash_mismatch, snapshot_hash_mismatch: one space more, and it is refused."""
    client = ClientRig(tmp_path, Repository(hashes=True))
    client.refresh()
    client.repository.release("targets")
    client.repository.served[f"2.{role}.json"] += b" "
    # The length is known from the file that lists it: not one byte more is taken.
    assert client.refused() == "DownloadLengthMismatchError"
    data = client.repository.served[f"2.{role}.json"][:-1]
    client.repository.served[f"2.{role}.json"] = data.replace(b'"2', b'"3', 1)
    assert client.refused() == "LengthOrHashMismatchError"
    assert client.trusted()[role] == 1


def test_metadata_bytes_match(client: ClientRig) -> None:
    """Files are kept byte for byte as they were served, however they are spelled."""
    repository = client.repository
    repository.publish("root")
    repository.release("targets")
    spelled = {}
    for role, name in [("root", "2.root.json"), ("timestamp", "timestamp.json")]:
        spelled[role] = json.dumps(json.loads(repository.served[name]), indent=7).encode()
        repository.served[name] = spelled[role]
    client.refresh()
    assert {role: client.kept(role) for role in spelled} == spelled


def test_custom_fields(client: ClientRig) -> None:
    """Fields that nobody knows are signed over, and do no harm."""
    root = client.repository.roles["root"]
    root.unrecognized_fields["custom-field"] = "value"
    key = root.keys[root.roles["root"].keyids[0]]
    key.unrecognized_fields["extra-field"] = {"a": 1, "b": [2]}
    root.roles["root"].unrecognized_fields["another-field"] = "value"
    client.repository.publish("root")
    client.refresh()
    assert client.trusted()["root"] == 2


def test_deprecated_keyid_hash_algorithms(client: ClientRig) -> None:
    """A field that old tools wrote into keys does not matter."""
    root = client.repository.roles["root"]
    for key in root.keys.values():
        key.unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    client.repository.publish("root")
    client.refresh()
    assert client.trusted()["root"] == 2


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json"])
def test_missing_file(client: ClientRig, name: str) -> None:
    """timestamp_404, snapshot_404, targets_404: the refresh fails, and later succeeds."""
    client.refresh()
    client.repository.release("targets")
    held = client.repository.served.pop(name)
    assert client.refused() == "DownloadHTTPError"
    assert client.trusted()["targets"] == 1
    client.repository.served[name] = held
    client.refresh()
    assert client.trusted()["targets"] == 2


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_incorrect_metadata_type(client: ClientRig, role: str) -> None:
    """Metadata of another kind is refused, even signed by the very keys."""
    repository = client.repository
    client.refresh()
    other = Targets if role != "targets" else Root
    document: Metadata[Any] = Metadata(other(version=2, expires=days(30)))
    for signer in repository.keys[role]:
        document.sign(signer, append=True)
    repository.release("targets")
    name = "timestamp.json" if role == "timestamp" else f"2.{role}.json"
    repository.served[name] = document.to_bytes()
    assert client.refused() == "RepositoryError"
    assert client.trusted()[role] == 1


def test_faketime(client: ClientRig) -> None:
    """The client goes by the clock that it is given."""
    client.repository.roles["timestamp"].expires = days(3)
    client.repository.publish("timestamp")
    client.at = 4
    assert client.refused() == "ExpiredMetadataError"
    client.at = 2
    assert client.refused() == ""


def test_snapshot_lists_a_length_beyond_all_bounds(client: ClientRig) -> None:
    """An online key may write any length: a file has the size that its role may have."""
    client.refresh()
    client.repository.release("targets")
    huge = client.repository.served["2.targets.json"] + b" " * (1 << 20)
    client.repository.served["2.targets.json"] = huge
    client.repository.roles["snapshot"].meta["targets.json"] = MetaFile(2, 1 << 40)
    client.repository.publish("snapshot", "timestamp")
    assert client.refused() == "DownloadLengthMismatchError"
    assert client.trusted()["targets"] == 1
