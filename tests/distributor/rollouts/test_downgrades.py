"""Going down is said to devices that would otherwise refuse it, by what they have heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.trust.assignment import check_downgrade
from distributor import rollouts
from edge_sdk.base import Digest, Version
from edge_sdk.manifest import Assignment, encode_assignment
from tests.support.catalog import AT_MS, Catalog, open_catalog


def commit(one: Catalog, version: str, artifact: Digest, number: int) -> bytes:
    """Rolls out and commits; the document that the device keeps."""
    one.roll_out(version)
    one.report("a", one.event("a", number, "committed"))
    one.check_in("a", active=artifact, version=version)
    return encode_assignment(one.assignment("a"))


def take_away(one: Catalog, rollout: str) -> Assignment:
    """Undoes what brought the model: it had none before."""
    one.assign(one.write(rollouts.undo, rollout, at_ms=AT_MS, by="alice"))
    assert one.assignment("a").models == ()
    return one.assignment("a")


def test_a_device_that_missed_that_the_model_was_taken_away(tmp_path: Path) -> None:
    """Assigned again in a lower version it is told from where it goes down, and goes."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        three = one.add_version("3.0.0")
        one.check_in("a")
        kept = commit(one, "3.0.0", three, 1)
        take_away(one, "r1")
        one.roll_out("1.0.0")
        check_downgrade(one.assignment("a"), kept)
        assert one.assignment("a").models[0].downgrade_from == Version.parse("3.0.0")
        two = one.add_version("2.0.0")
        one.roll_out("2.0.0")
        assert one.assignment("a").models[0].artifact == two
        check_downgrade(one.assignment("a"), kept)
        one.add_version("4.0.0")
        one.roll_out("4.0.0")
        assert one.assignment("a").models[0].downgrade_from is None


def test_what_it_was_assigned_and_never_said(tmp_path: Path) -> None:
    """Also what it may have accepted without anybody hearing of it."""
    with open_catalog(tmp_path) as one:
        for version in ("1.0.0", "3.0.0"):
            one.add_version(version)
        one.check_in("a")
        made = one.roll_out("3.0.0")
        kept = encode_assignment(one.assignment("a"))
        one.write(rollouts.abort, made.rollout, at_ms=AT_MS, by="alice")
        assert one.assignment("a").models == ()
        one.roll_out("1.0.0")
        check_downgrade(one.assignment("a"), kept)


def test_another_device_is_told_nothing(tmp_path: Path) -> None:
    """A first version, or a higher one after the model was away, goes down from nowhere."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        three = one.add_version("3.0.0")
        for name in ("a", "b"):
            one.check_in(name)
        one.roll_out("3.0.0", "a")
        one.report("a", one.event("a", 1, "committed"))
        one.check_in("a", active=three, version="3.0.0")
        take_away(one, "r1")
        one.roll_out("1.0.0", "b")
        assert one.assignment("b").models[0].downgrade_from is None
        one.add_version("3.1.0")
        one.roll_out("3.1.0", "a")
        assert one.assignment("a").models[0].downgrade_from is None


@pytest.mark.parametrize("active", ["2.0.0", None])
def test_what_it_says_it_runs_counts(tmp_path: Path, active: str | None) -> None:
    """A device that came from another catalog runs what was never assigned here."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        strange = Digest.of(b"from elsewhere")
        if active is None:
            one.check_in("a")
        else:
            one.check_in("a", active=strange, version=active)
        one.roll_out("1.0.0")
        found = one.assignment("a").models[0].downgrade_from
        assert found == (None if active is None else Version.parse(active))
