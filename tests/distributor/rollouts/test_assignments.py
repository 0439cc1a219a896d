"""Assignment documents: whole, numbered, never behind what the device has seen."""

from __future__ import annotations

from pathlib import Path

from distributor import rollouts
from edge_sdk.manifest import decode_assignment
from tests.support.catalog import AT_MS, open_catalog


def test_sent_until_accepted(tmp_path: Path) -> None:
    """A device gets its document until it says that it has it."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        assert one.write(rollouts.newer_assignment, "a", at_ms=AT_MS) == b""
        one.roll_out("1.0.0")
        one.check_in("a", counter=0)
        document = one.write(rollouts.newer_assignment, "a", at_ms=AT_MS)
        assert decode_assignment(document).counter == 1
        assert one.write(rollouts.newer_assignment, "a", at_ms=AT_MS) == document
        one.check_in("a", counter=1)
        assert one.write(rollouts.newer_assignment, "a", at_ms=AT_MS) == b""


def test_a_device_ahead_of_a_restored_catalog(tmp_path: Path) -> None:
    """Where the device saw higher numbers than this catalog knows, it gets a still higher one."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        one.roll_out("1.0.0")
        one.check_in("a", counter=40)
        again = decode_assignment(one.write(rollouts.newer_assignment, "a", at_ms=AT_MS))
        assert again.counter == 41
        assert again.models == one.assignment("a").models
        one.check_in("a", counter=41)
        assert one.write(rollouts.newer_assignment, "a", at_ms=AT_MS) == b""


def test_the_next_rollout_is_above_what_was_seen(tmp_path: Path) -> None:
    """A new assignment is above both the last one made and the last one accepted."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a", counter=7)
        one.roll_out("1.0.0")
        assert one.assignment("a").counter == 8


def test_assignments_expire_and_are_said_again_before(tmp_path: Path) -> None:
    """An assignment lasts thirty days; from the middle on a device that checks in gets the same
    under a new number, so that one that was away for months starts with a fresh one."""
    day_ms = 86_400_000
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        one.roll_out("1.0.0")
        first = one.assignment("a")
        assert first.expires_s is not None
        assert 29 * day_ms < first.expires_s * 1000 - AT_MS <= 31 * day_ms
        one.check_in("a", counter=1)
        assert one.write(rollouts.newer_assignment, "a", at_ms=AT_MS + 14 * day_ms) == b""
        for later_ms in (16 * day_ms, 270 * day_ms):
            at_ms = AT_MS + later_ms
            again = decode_assignment(one.write(rollouts.newer_assignment, "a", at_ms=at_ms))
            assert again.models == first.models
            assert again.counter == one.assignment("a").counter > first.counter
            assert again.expires_s == at_ms // 1000 + 30 * 86_400
            one.check_in("a", counter=again.counter)
            assert one.write(rollouts.newer_assignment, "a", at_ms=at_ms) == b""
