"""Events move a device of a rollout forward, never back."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.devices import ModelState
from distributor.rollouts.model import DECIDED_HERE, DEVICE_STATES, RolloutDevice
from distributor.rollouts.progress import DeviceEvent, advance, settled, shown
from edge_sdk.base import Digest, ModelName, Version

TARGET = Digest.of(b"target")
ROW = RolloutDevice(
    model=ModelName.parse("team/digits"),
    device="cam-1",
    artifact=TARGET,
    version="1.0.0",
    variant="fp32",
    state="assigned",
    changed_ms=0,
    attempt=1,
    counter=3,
)
EVENT = DeviceEvent(
    number=1,
    at_ms=5,
    model="team/digits",
    version="1.0.0",
    artifact=TARGET,
    rollout="r1",
    attempt=1,
    state="fetching",
    facts={"wire_bytes": "77"},
)


def test_an_event_moves_the_row() -> None:
    """State, reason, facts and bytes follow the event."""
    after = advance(ROW, EVENT, at_ms=9)
    assert (after.state, after.event, after.changed_ms) == ("fetching", 1, 9)
    assert (after.wire_bytes, after.facts) == (77, {"wire_bytes": "77"})
    later = replace(EVENT, number=2, state="committed", facts={"unproved": "true"})
    assert advance(after, later, at_ms=10).facts == {"wire_bytes": "77", "unproved": "true"}


def test_what_is_not_about_the_row_changes_nothing() -> None:
    """Another artifact, attempt or state, an old number, or a row decided here: the same value."""
    strange = [
        replace(EVENT, artifact=Digest.of(b"other")),
        replace(EVENT, attempt=2),
        replace(EVENT, state="dancing"),
        replace(EVENT, number=0),
    ]
    for event in strange:
        assert advance(ROW, event, at_ms=9) is ROW
    for state in DECIDED_HERE:
        row = replace(ROW, state=state)
        assert advance(row, EVENT, at_ms=9) is row
    unassigned = replace(ROW, counter=0)
    assert advance(unassigned, EVENT, at_ms=9) is unassigned


def test_bytes_that_are_no_number_are_ignored() -> None:
    """A fact that cannot be read leaves the planned bytes."""
    row = replace(ROW, wire_bytes=5)
    for text in ("", "many", "-1", "9" * 30, "\u0663"):
        event = replace(EVENT, facts={"wire_bytes": text})
        assert advance(row, event, at_ms=9).wire_bytes == 5


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(1, 7)), st.lists(st.sampled_from(sorted(DEVICE_STATES)), min_size=6))
def test_c36_any_order_ends_at_the_newest(order: list[int], states: list[str]) -> None:
    """However events are repeated and mixed, the row ends where the newest one says."""
    row = ROW
    for number in [*order, *order]:
        row = advance(row, replace(EVENT, number=number, state=states[number - 1]), at_ms=9)
    assert (row.event, row.state) == (6, states[5])


def test_c31_settled_by_what_runs() -> None:
    """A device that accepted the assignment and runs the artifact has committed."""
    there = settled(ROW, accepted_counter=3, settled_on=TARGET, at_ms=9)
    assert (there.state, there.changed_ms) == ("committed", 9)
    assert settled(ROW, accepted_counter=2, settled_on=TARGET, at_ms=9) is ROW
    assert settled(ROW, accepted_counter=3, settled_on=None, at_ms=9) is ROW
    done = replace(ROW, state="failed")
    assert settled(done, accepted_counter=3, settled_on=TARGET, at_ms=9) is done


def test_a_removed_model_is_settled_when_it_is_gone() -> None:
    """Where a model was taken away, its absence is the end."""
    row = replace(ROW, artifact=None)
    after = settled(row, accepted_counter=3, settled_on=None, at_ms=9)
    assert (after.state, after.facts) == ("committed", {"removed": "true"})


def test_c32_only_committed_changes_what_runs() -> None:
    """Under way the old artifact runs and the candidate is named; then the new one runs."""
    before = ModelState(
        model=ModelName.parse("team/digits"),
        active=Digest.of(b"old"),
        active_version=Version.parse("0.9.0"),
        state="committed",
    )
    moving = shown(before, EVENT)
    assert moving == replace(before, state="fetching", candidate=TARGET)
    failed = shown(moving, replace(EVENT, state="failed", reason="GoldenMismatch"))
    assert failed == replace(before, reason="GoldenMismatch")
    there = shown(moving, replace(EVENT, state="committed"))
    assert there == replace(before, active=TARGET, active_version=Version.parse("1.0.0"))
    gone = shown(there, replace(EVENT, state="rolled_back", reason="TooSlow"))
    assert gone is not None
    assert (gone.active, gone.state, gone.reason) == (None, "rolled_back", "TooSlow")


def test_an_event_that_says_nothing_of_a_model() -> None:
    """Unknown states, no artifact, or names that are none leave what is known."""
    for event in (
        replace(EVENT, state="source_rotten"),
        replace(EVENT, artifact=None),
        replace(EVENT, model="nameless"),
        replace(EVENT, version="new"),
    ):
        assert shown(None, event) is None
    fresh = shown(None, replace(EVENT, state="failed", reason="ResourceError"))
    assert fresh is not None
    assert (fresh.active, fresh.state) == (None, "failed")
