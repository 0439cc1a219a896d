"""What is expired is not believed, and still guards against what is older."""

from __future__ import annotations

import pytest

from tests.support.metadata_client import ClientRig
from tests.support.tuf_repository import days


def test_root_expired(client: ClientRig) -> None:
    """The newest root is kept, though it is expired; nothing else is."""
    client.refresh()
    client.repository.publish("root")
    client.repository.roles["root"].expires = days(-1)
    client.repository.publish("root")
    client.repository.release("targets")
    assert client.refused() == "ExpiredMetadataError"
    assert client.trusted() == {"root": 3, "timestamp": 1, "snapshot": 1, "targets": 1}


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_role_expired(client: ClientRig, role: str) -> None:
    """timestamp_expired, snapshot_expired, targets_expired: the one before stays."""
    client.refresh()
    client.repository.roles[role].expires = days(-5)
    client.repository.release("targets")
    assert client.refused() == "ExpiredMetadataError"
    assert client.trusted()[role] == 1


def test_expired_local_root(client: ClientRig) -> None:
    """A root that is expired by now may still be the beginning of the chain."""
    client.repository.roles["root"].expires = days(60)
    client.repository.publish("root")
    for role in ("timestamp", "snapshot", "targets"):
        client.repository.roles[role].expires = days(60)
    client.repository.release("targets")
    client.at = 40  # the first root expires on day 30
    client.refresh()
    assert client.trusted()["root"] == 2


def test_expired_local_timestamp(client: ClientRig) -> None:
    """It still guards: a timestamp of a lower version is refused, a higher one is taken."""
    repository = client.repository
    repository.publish("timestamp")
    old = repository.served["timestamp.json"]
    repository.roles["timestamp"].expires = days(7)
    repository.publish("timestamp")
    client.refresh()
    client.at = 18
    newest, repository.served["timestamp.json"] = repository.served["timestamp.json"], old
    assert client.refused() == "BadVersionNumberError"
    repository.served["timestamp.json"] = newest
    assert client.refused() == "ExpiredMetadataError"
    repository.roles["timestamp"].expires = days(21)
    repository.release("targets")
    client.refresh()
    assert client.trusted() == {"root": 1, "timestamp": 4, "snapshot": 2, "targets": 2}


def test_delegated_targets_expired(client: ClientRig) -> None:
    """Targets of a role that is expired when it is first seen are not found, nor is it kept."""
    client.repository.delegate("targets", "A")
    client.repository.add("file", b"data", "A")
    client.repository.roles["A"].expires = days(-1)
    client.repository.release("A", "targets")
    client.refresh()
    assert client.download("file") is None
    assert set(client.trusted()) == {"root", "timestamp", "snapshot", "targets"}


def test_expired_local_delegated_targets(client: ClientRig) -> None:
    """A role that was believed until it expired is not, until there is a newer one."""
    repository = client.repository
    repository.delegate("targets", "A")
    repository.add("first", b"1", "A")
    repository.add("second", b"2", "A")
    repository.roles["A"].expires = days(7)
    repository.release("A", "targets")
    assert client.download("first") == b"1"
    client.at = 18
    assert client.download("second") is None
    repository.roles["A"].expires = days(21)
    repository.release("A")
    assert client.download("second") == b"2"
