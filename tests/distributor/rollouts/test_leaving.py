"""No rollout waits for a device whose key is refused."""

from __future__ import annotations

from pathlib import Path

from distributor import rollouts
from distributor.rollouts import Cohort, RolloutRequest
from edge_sdk.base import Version
from tests.support.catalog import AT_MS, MODEL, Catalog, open_catalog
from tests.support.thrown_out import enrol, throw_out


def leave(one: Catalog, device: str) -> frozenset[str]:
    throw_out(one, device)
    return one.write(rollouts.leave, device, "stolen", at_ms=AT_MS + 9).rollouts


def test_a_rollout_goes_on_without_it(tmp_path: Path) -> None:
    """The device is out, with why; the rollout is done when the others are."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        for name in ("a", "b"):
            one.check_in(name)
        made = one.roll_out("1.0.0").rollout
        assert leave(one, "b") == {made}
        assert one.states(made) == {"a": "assigned", "b": "revoked"}
        row = one.rollout(made).devices[1]
        assert row.message == "out of the rollout, as the device is refused: stolen"
        assert one.rollout(made).state == "running"
        one.report("a", one.event("a", 1, "committed"))
        assert one.rollout(made).state == "done"


def test_a_rollout_that_waited_for_it_alone_is_done(tmp_path: Path) -> None:
    """The last one it waited for was thrown out: nothing more is expected."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0").rollout
        leave(one, "a")
        assert one.rollout(made).state == "done"
        assert one.write(rollouts.leave, "a", "again", at_ms=AT_MS).rollouts == frozenset()


def test_what_is_still_building_is_not_assigned_to_it(tmp_path: Path) -> None:
    """Thrown out while deltas are built, it stays out when they are."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        for name in ("a", "b"):
            one.check_in(name)
        request = RolloutRequest(model=MODEL, version=Version.parse("1.0.0"), cohort=Cohort())
        made = one.write(rollouts.create, request, at_ms=AT_MS, by="alice")
        leave(one, "b")
        one.assign(made)
        assert one.states(made.rollout) == {"a": "assigned", "b": "revoked"}
        assert one.counter("b") == 0


def test_those_of_before_are_found_at_the_start(tmp_path: Path) -> None:
    """Devices that were thrown out by an earlier release leave when the distributor starts."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        for name in ("a", "b"):
            one.check_in(name)
        made = one.roll_out("1.0.0").rollout
        throw_out(one, "b")
        assert one.write(rollouts.leave_all, at_ms=AT_MS).rollouts == {made}
        assert one.states(made) == {"a": "assigned", "b": "revoked"}


def test_undo_does_not_wait_for_it(tmp_path: Path) -> None:
    """It is assigned what it had before, should it come back, and is no part of the undo; nor
    does what it says later count in a rollout that it left."""
    with open_catalog(tmp_path) as one:
        first = one.add_version("1.0.0")
        one.add_version("2.0.0", parent="1.0.0")
        for name in ("a", "b"):
            one.check_in(name)
        one.roll_out("1.0.0")
        for name in ("a", "b"):
            one.report(name, one.event(name, 1, "committed"))
            one.check_in(name, active=first)
        second = one.roll_out("2.0.0").rollout
        leave(one, "b")
        back = one.write(rollouts.undo, second, at_ms=AT_MS, by="alice")
        one.assign(back)
        assert one.states(back.rollout) == {"a": "assigned"}
        for name in ("a", "b"):
            assert one.assignment(name).models[0].artifact == first
        enrol(one, "b", name="b", key="another")
        one.report("b", one.event("b", 2, "committed"))
        assert one.states(second)["b"] == "revoked"
