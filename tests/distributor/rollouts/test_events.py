"""Events are stored once, in order, and acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from distributor import devices, rollouts
from distributor.devices import Refusal
from distributor.rollouts import DeviceEvent
from distributor.storage.tables import events
from edge_sdk.base import NotFoundError
from tests.support.catalog import AT_MS, Catalog, open_catalog


def _stored(one: Catalog) -> list[tuple[int, str]]:
    def read(connection: Connection) -> list[tuple[int, str]]:
        query = select(events.c.number, events.c.state).order_by(events.c.number)
        return [(row.number, row.state) for row in connection.execute(query)]

    return one.read(read)


def test_a_second_delivery_changes_nothing(tmp_path: Path) -> None:
    """Events that were acknowledged are not stored or counted again."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0")
        batch = [one.event("a", number, state) for number, state in _LIFE]
        acknowledged, touched = one.report("a", *batch)
        assert (acknowledged, touched.rollouts) == (3, {made.rollout})
        assert one.report("a", *batch) == (3, rollouts.Touched())
        assert _stored(one) == list(_LIFE)


_LIFE = ((1, "fetching"), (2, "proved"), (3, "committed"))


def test_what_a_device_refuses_is_shown_until_it_takes_something_up(tmp_path: Path) -> None:
    """The last refusal counts; it is over with an update under way, or an assignment accepted."""

    def refused(number: int, check: str) -> DeviceEvent:
        facts = {"check": check}
        values = {"artifact": None, "rollout": "", "model": "", "version": "", "attempt": 0}
        return one.event("a", number, "refused", reason="TrustError", facts=facts, **values)

    def shown() -> str | None:
        refusal = one.read(devices.get_device, "a").refusal
        return None if refusal is None else refusal.check

    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0")
        assert shown() is None
        one.report("a", refused(1, "targets"))
        _, touched = one.report("a", refused(2, "floor"))
        assert shown() == "floor"
        (row,) = one.rollout(made.rollout).devices  # whoever watches sees why it waits
        assert touched.rollouts == {made.rollout}
        assert (row.state, row.reason) == ("assigned", "TrustError")
        assert row.message == "not taken up (floor); edge-fleet explain a says more"
        one.check_in("a", counter=0)
        assert shown() == "floor"
        one.report("a", one.event("a", 3, "fetching"))
        assert shown() is None
        _, touched = one.report("a", refused(4, "expired"))
        (row,) = one.rollout(made.rollout).devices
        assert (row.state, row.reason, row.message) == ("fetching", "", "")
        assert not touched.rollouts
        one.check_in("a", counter=1)
        assert shown() is None
        one.report("a", one.event("a", 5, "proved"), refused(6, "expired"))
        one.check_in("a", counter=1)
        assert shown() == "expired"
        found = one.read(devices.list_devices)[0].refusal
        assert found == Refusal(at_ms=AT_MS, reason="TrustError", check="expired", message="")


def test_only_newer_ones_count(tmp_path: Path) -> None:
    """A batch that overlaps the last one adds only what is new, whatever its order."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0")
        one.report("a", one.event("a", 1, "fetching"), one.event("a", 2, "proved"))
        late = one.event("a", 3, "tried")
        acknowledged, _ = one.report(
            "a", one.event("a", 4, "switched"), late, one.event("a", 2, "failed")
        )
        assert acknowledged == 4
        assert one.states(made.rollout) == {"a": "switched"}
        assert [number for number, _ in _stored(one)] == [1, 2, 3, 4]
        assert one.report("a", one.event("a", 3, "failed"))[0] == 4
        assert one.states(made.rollout) == {"a": "switched"}


def test_an_event_about_nothing_known_is_kept(tmp_path: Path) -> None:
    """An event without artifact, or of another model, is stored and moves no rollout."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0")
        bare = DeviceEvent(
            number=1,
            at_ms=AT_MS,
            model="",
            version="",
            artifact=None,
            rollout="",
            attempt=0,
            state="started",
        )
        foreign = one.event("a", 2, "committed", model="team/letters")
        assert one.report("a", bare, foreign)[0] == 2
        assert one.states(made.rollout) == {"a": "assigned"}


def test_an_event_of_the_rollout_before_counts_for_the_same_attempt(tmp_path: Path) -> None:
    """A device that got the same artifact again by a new rollout may still name the old one."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        first = one.roll_out("1.0.0")
        old = one.event("a", 1, "committed")
        second = one.roll_out("1.0.0")
        one.report("a", old)
        assert one.states(first.rollout) == {"a": "superseded"}
        assert one.states(second.rollout) == {"a": "committed"}


def test_an_unknown_device_has_no_events(tmp_path: Path) -> None:
    """Reporting before the first check-in is refused."""
    with open_catalog(tmp_path) as one, pytest.raises(NotFoundError):
        one.report("ghost")


def test_going_back_after_committing_is_seen(tmp_path: Path) -> None:
    """A newer event takes a committed device to rolled back: the status says what runs now."""
    with open_catalog(tmp_path) as one:
        one.add_version("1.0.0")
        one.check_in("a")
        made = one.roll_out("1.0.0")
        one.report("a", one.event("a", 1, "committed"))
        one.report("a", one.event("a", 2, "rolled_back", reason="OperatorRollback"))
        assert one.states(made.rollout) == {"a": "rolled_back"}
