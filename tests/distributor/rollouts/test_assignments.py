"""Assignment documents: whole, numbered, never behind what the device has seen."""

from __future__ import annotations

from pathlib import Path

from distributor import rollouts
from edge_sdk.manifest import decode_assignment
from tests.support.catalog import open_catalog


def test_sent_until_accepted(tmp_path: Path) -> None:
    """A device gets its document until it says that it has it."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        assert one.write(rollouts.newer_assignment, "a") == b""
        one.roll_out("1.0.0")
        one.check_in("a", counter=0)
        document = one.write(rollouts.newer_assignment, "a")
        assert decode_assignment(document).counter == 1
        assert one.write(rollouts.newer_assignment, "a") == document
        one.check_in("a", counter=1)
        assert one.write(rollouts.newer_assignment, "a") == b""


def test_a_device_ahead_of_a_restored_catalog(tmp_path: Path) -> None:
    """Where the device saw higher numbers than this catalog knows, it gets a still higher one."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        one.roll_out("1.0.0")
        one.check_in("a", counter=40)
        again = decode_assignment(one.write(rollouts.newer_assignment, "a"))
        assert again.counter == 41
        assert again.models == one.assignment("a").models
        one.check_in("a", counter=41)
        assert one.write(rollouts.newer_assignment, "a") == b""


def test_the_next_rollout_is_above_what_was_seen(tmp_path: Path) -> None:
    """A new assignment is above both the last one made and the last one accepted."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a", counter=7)
        one.roll_out("1.0.0")
        assert one.assignment("a").counter == 8
