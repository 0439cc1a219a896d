"""Numbered events, and answers about them that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.store.filesystem import FileSystem
from device_agent.store.journal import Journal, read_records
from device_agent.updater.lifecycle import State
from device_agent.updater.report import EventLog
from device_agent.updater.update import Update
from edge_sdk.base import Digest


def update(message: str = "") -> Update:
    return Update(
        model="team/digits",
        artifact=Digest.of(b"a"),
        version="1.0.0",
        variant="v",
        rollout="",
        attempt=1,
        kind="update",
        state=State.FAILED,
        message=message,
    )


def log_of(path: Path) -> EventLog:
    return EventLog(Journal(FileSystem(), path), lambda call: call())


@pytest.mark.parametrize("number", [2**53 + 1, 2**63, 2**64 - 1])
def test_an_impossible_number_is_not_taken_over(tmp_path: Path, number: int) -> None:
    """One hostile answer must not leave a journal to which nothing can be appended."""
    log = log_of(tmp_path / "journal")
    log.enter(update(), "assigned")
    assert log.acknowledged(number)
    again = log_of(tmp_path / "journal")
    again.enter(update(), "planned")
    assert [note.number for note in again.unacknowledged()] == [1, 2]


def test_a_message_of_any_length_is_kept_short(tmp_path: Path) -> None:
    """A record too long to be read again would cut off all that comes after it."""
    path = tmp_path / "journal"
    log = log_of(path)
    log.enter(update("x" * (3 << 20)), "failed", facts={"y": "z" * (3 << 20)})
    log.enter(update(), "assigned")
    assert len(list(read_records(path.read_bytes()))) == 2
    assert len(log.unacknowledged()[0].message) < 5000
