"""Thresholds are of different keys, each counted once."""

from __future__ import annotations

import json

import pytest
from securesystemslib.signer import CryptoSigner

from tests.support.metadata_client import ClientRig


def test_snapshot_does_not_meet_threshold(client: ClientRig) -> None:
    """Five keys sign where six must."""
    client.refresh()
    for _ in range(4):
        client.repository.add_key("snapshot")
    client.repository.roles["root"].roles["snapshot"].threshold = 6
    client.repository.publish("root")
    client.repository.release("targets")
    assert client.refused() == "UnsignedMetadataError"
    assert client.trusted()["snapshot"] == 1


def test_snapshot_has_too_few_keys(client: ClientRig) -> None:
    """The root names enough keys; that is no signature by them."""
    client.refresh()
    repository = client.repository
    repository.roles["root"].roles["snapshot"].threshold = 2
    repository.roles["root"].add_key(CryptoSigner.generate_ed25519().public_key, "snapshot")
    repository.publish("root")
    repository.release("targets")
    assert client.refused() == "UnsignedMetadataError"
    assert client.trusted()["snapshot"] == 1
    repository.add_key("snapshot")
    repository.publish("root")
    repository.release("targets")
    client.refresh()
    assert client.trusted()["snapshot"] == 3


def test_duplicate_keys(client: ClientRig) -> None:
    """The same key id, listed twice, does not count twice."""
    client.refresh()
    root = client.repository.roles["root"]
    root.roles["snapshot"].threshold = 2
    root.roles["snapshot"].keyids *= 2
    client.repository.publish("root")
    client.repository.release("targets")
    assert client.refused() in ("UnsignedMetadataError", "DeserializationError")
    assert client.trusted()["snapshot"] == 1


def test_duplicate_sig_keyids(client: ClientRig) -> None:
    """Two signatures with one key id are refused, even where one of them would do."""
    client.refresh()
    client.repository.release("targets")
    said = json.loads(client.repository.served["timestamp.json"])
    said["signatures"] *= 2
    client.repository.served["timestamp.json"] = json.dumps(said).encode()
    assert client.refused() == "DeserializationError"
    assert client.trusted()["timestamp"] == 1


@pytest.mark.parametrize(
    "signer",
    [CryptoSigner.generate_rsa, CryptoSigner.generate_ecdsa, CryptoSigner.generate_ed25519],
)
def test_keytype_and_scheme(client: ClientRig, signer: type) -> None:
    """rsa, ecdsa and ed25519 keys sign alike."""
    client.repository.keys["timestamp"].clear()
    client.repository.roles["root"].roles["timestamp"].keyids.clear()
    client.repository.add_key("timestamp", signer())
    client.repository.publish("root")
    client.repository.release("targets")
    client.refresh()
    assert client.trusted()["timestamp"] == 2


def test_invalid_sig_in_valid_metadata(client: ClientRig) -> None:
    """One bad signature beside a good one takes nothing away."""
    client.repository.add_key("timestamp")
    client.repository.publish("root")
    client.repository.release("targets")
    said = json.loads(client.repository.served["timestamp.json"])
    said["signatures"][1]["sig"] = "00" * 64
    client.repository.served["timestamp.json"] = json.dumps(said).encode()
    client.refresh()
    assert client.trusted()["timestamp"] == 2
