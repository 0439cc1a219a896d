"""Going back means what really ran, not what failed."""

from __future__ import annotations

from pathlib import Path

from distributor import devices, rollouts
from distributor.rollouts.before import before
from edge_sdk.base import Digest
from tests.support.catalog import AT_MS, MODEL, Catalog, open_catalog


def _commit(one: Catalog, device: str, number: int) -> Digest:
    artifact = one.assignment(device).models[0].artifact
    one.report(device, one.event(device, number, "committed"))
    one.check_in(device, active=artifact)
    return artifact


def _versions(one: Catalog) -> None:
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        one.add_version(version)
    one.check_in("a")


def test_what_failed_is_not_gone_back_to(tmp_path: Path) -> None:
    """1 runs, 2 fails, 3 commits: undoing 3 assigns 1, as it once came."""
    with open_catalog(tmp_path) as one:
        _versions(one)
        one.roll_out("1.0.0")
        first = _commit(one, "a", 1)
        one.roll_out("2.0.0")
        one.report("a", one.event("a", 2, "rolled_back", reason="TooSlow"))
        third = one.roll_out("3.0.0")
        previous = third.devices[0].previous
        assert previous is not None
        assert (previous.artifact, previous.rollout, previous.attempt) == (first, "r1", 1)
        _commit(one, "a", 3)
        one.assign(one.write(rollouts.undo, third.rollout, at_ms=AT_MS, by="alice"))
        assert one.assignment("a").models[0].artifact == first


def test_what_is_under_way_is_gone_back_to(tmp_path: Path) -> None:
    """A version that was assigned and did not fail is what the device was to run."""
    with open_catalog(tmp_path) as one:
        _versions(one)
        one.roll_out("1.0.0")
        second = one.roll_out("2.0.0")
        previous = second.devices[0].previous
        assert previous is not None
        assert str(previous.version) == "1.0.0"


def test_failed_and_nothing_else(tmp_path: Path) -> None:
    """Where the first version failed there is nothing to go back to."""
    with open_catalog(tmp_path) as one:
        _versions(one)
        one.roll_out("1.0.0")
        one.report("a", one.event("a", 1, "failed", reason="GoldenMismatch"))
        assert one.read(before, one.read(devices.get_device, "a"), MODEL) is None


def test_what_another_distributor_brought(tmp_path: Path) -> None:
    """A device that runs what this catalog knows but never assigned can go back to it; one
    that runs what nobody here knows cannot."""
    with open_catalog(tmp_path) as one:
        _versions(one)
        known = one.add_version("0.9.0")
        found = one.read(before, one.check_in("b", active=known), MODEL)
        assert found is not None
        assert (found.artifact, found.rollout, found.attempt) == (known, "", 1)
        assert one.read(before, one.check_in("c", active=Digest.of(b"?")), MODEL) is None


def test_abort_takes_failed_devices_back_too(tmp_path: Path) -> None:
    """A device on which it failed keeps that state, and is assigned what it runs."""
    with open_catalog(tmp_path) as one:
        _versions(one)
        one.check_in("b")
        one.roll_out("1.0.0")
        first = _commit(one, "a", 1)
        _commit(one, "b", 1)
        second = one.roll_out("2.0.0")
        one.report("a", one.event("a", 2, "failed", reason="GoldenMismatch"))
        touched = one.write(rollouts.abort, second.rollout, at_ms=AT_MS, by="alice")
        assert touched.devices == {"a", "b"}
        assert one.states(second.rollout) == {"a": "failed", "b": "recalled"}
        assert one.assignment("a").models[0].artifact == first


def test_the_version_that_runs_can_be_ordered_again(tmp_path: Path) -> None:
    """After a failed version, rolling out the one that runs assigns it and ends at once."""
    with open_catalog(tmp_path) as one:
        _versions(one)
        one.roll_out("1.0.0")
        first = _commit(one, "a", 1)
        one.roll_out("2.0.0")
        one.report("a", one.event("a", 2, "failed", reason="GoldenMismatch"))
        again = one.roll_out("1.0.0")
        assert one.assignment("a").models[0].artifact == first
        record = one.check_in("a", active=first)
        one.write(rollouts.settle, record, at_ms=AT_MS)
        assert one.rollout(again.rollout).state == "done"
