"""Nothing older is ever taken, and a repository can recover from versions that are too high."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.metadata_client import ClientRig
from tests.support.tuf_repository import Repository


def test_new_timestamp_version_rollback(client: ClientRig) -> None:
    """A timestamp below the one that was seen."""
    client.repository.publish("timestamp")
    client.refresh()
    client.repository.roles["timestamp"].version = 1
    client.repository.publish("timestamp", bump=False)
    assert client.refused() == "BadVersionNumberError"
    assert client.trusted()["timestamp"] == 2


@pytest.mark.parametrize("hashes", [False, True])
def test_snapshot_rollback(tmp_path: Path, hashes: bool) -> None:
    """A new timestamp over an older snapshot, with hashes of metadata and without."""
    client = ClientRig(tmp_path, Repository(hashes=hashes))
    client.repository.release()
    client.refresh()
    client.repository.roles["snapshot"].version = 1
    client.repository.publish("snapshot", bump=False)
    client.repository.publish("timestamp")
    assert client.refused() == "BadVersionNumberError"
    assert client.trusted() == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 1}


@pytest.mark.parametrize("hashes", [False, True])
def test_targets_rollback(tmp_path: Path, hashes: bool) -> None:
    """A new snapshot that lists older targets."""
    client = ClientRig(tmp_path, Repository(hashes=hashes))
    client.repository.release("targets")
    client.refresh()
    client.repository.roles["targets"].version = 1
    client.repository.publish("targets", bump=False)
    client.repository.publish("snapshot", "timestamp")
    assert client.refused() == "BadVersionNumberError"
    assert client.trusted()["snapshot"] == 2
    assert client.trusted()["targets"] == 2


def test_targets_role_removal(client: ClientRig) -> None:
    """A snapshot that lists a role no longer."""
    client.repository.delegate("targets", "A")
    client.repository.release("A", "targets")
    client.refresh()
    del client.repository.roles["snapshot"].meta["A.json"]
    client.repository.release("targets")
    assert client.refused() == "RepositoryError"
    assert client.trusted()["snapshot"] == 2


def test_targets_fast_forward_recovery(client: ClientRig) -> None:
    """A new snapshot key lets targets have a lower version again."""
    client.repository.roles["targets"].version = 99_998
    client.repository.release("targets")
    client.refresh()
    assert client.trusted()["targets"] == 99_999
    client.repository.rotate("snapshot")
    client.repository.publish("root")
    client.repository.roles["targets"].version = 1
    client.repository.release("targets")
    client.refresh()
    assert client.trusted()["targets"] == 2


def test_new_snapshot_fast_forward_recovery(client: ClientRig) -> None:
    """New snapshot and timestamp keys let the snapshot have one."""
    client.repository.roles["snapshot"].version = 99_998
    client.repository.release()
    client.refresh()
    assert client.trusted()["snapshot"] == 99_999
    client.repository.rotate("snapshot")
    client.repository.rotate("timestamp")
    client.repository.publish("root")
    client.repository.roles["snapshot"].version = 0
    client.repository.release()
    client.refresh()
    assert client.trusted()["snapshot"] == 1


def test_new_timestamp_fast_forward_recovery(client: ClientRig) -> None:
    """A new timestamp key lets the timestamp have one: marks do not stand against it."""
    client.repository.roles["timestamp"].version = 10**30
    client.repository.publish("timestamp")
    client.refresh()
    client.repository.roles["timestamp"].version = 0
    client.repository.publish("timestamp")
    assert client.refused() == "BadVersionNumberError"
    client.repository.rotate("timestamp")
    client.repository.publish("root")
    client.repository.roles["timestamp"].version = 0
    client.repository.publish("timestamp")
    client.refresh()
    assert client.trusted()["timestamp"] == 1
    client.refresh()
    assert client.trusted()["timestamp"] == 1
