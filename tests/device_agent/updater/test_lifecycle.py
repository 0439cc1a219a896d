"""The table of an update's life."""

from __future__ import annotations

import itertools

import pytest

from device_agent.updater.lifecycle import (
    LATE,
    TRANSITIONS,
    Act,
    Event,
    State,
    advance,
    is_ended,
    is_serving,
)
from edge_sdk.base import RefusedError

PAIRS = list(itertools.product(State, Event))


@pytest.mark.parametrize(("state", "event"), PAIRS)
def test_every_pair_is_in_the_table_or_refused_by_name(state: State, event: Event) -> None:
    """Each state and event has an outcome, is passed over as late, or is refused by both names."""
    if (state, event) in TRANSITIONS:
        assert (state, event) not in LATE
        assert advance(state, event) == TRANSITIONS[state, event]
    elif (state, event) in LATE:
        assert advance(state, event) == (state, ())
    else:
        with pytest.raises(RefusedError) as refused:
            advance(state, event)
        assert refused.value.facts == {"state": state.value, "event": event.value}


def test_an_update_ends_only_in_three_states() -> None:
    """Committed, failed and rolled back; from any other state each can still be reached."""
    assert [state for state in State if is_ended(state)] == [
        State.COMMITTED,
        State.FAILED,
        State.ROLLED_BACK,
    ]
    for start in State:
        if not is_ended(start):
            assert any(is_ended(state) for state in reachable(start))


def test_no_candidate_serves_before_the_journal_said_so() -> None:
    """SWITCH is performed only in states that name the switch; nothing else touches the slot."""
    for state, acts in TRANSITIONS.values():
        if Act.SWITCH in acts:
            assert is_serving(state)


def test_only_trial_and_probation_are_remembered() -> None:
    """Transfer, proof, space and supersession never block a version."""
    remembered = {event for (_, event), (_, acts) in TRANSITIONS.items() if Act.REMEMBER in acts}
    assert remembered == {
        Event.TRIAL_FAILED,
        Event.PREPARE_FAILED,
        Event.SWITCH_FAILED,
        Event.CRASHED,
        Event.DIES_AT_START,
        Event.WORSE,
        Event.ROLLBACK_ASKED,
    }


def test_after_a_start_every_state_knows_what_to_do() -> None:
    """RESUMED is in the table for all states, and performs what the last run may have missed."""
    for state in State:
        assert (state, Event.RESUMED) in TRANSITIONS
        assert advance(state, Event.RESUMED)[0] is state


def test_serving_candidates_go_back_when_stopped() -> None:
    """Stopping what serves rolls back; stopping what does not only abandons."""
    for state in State:
        if is_serving(state):
            assert advance(state, Event.STOPPED) == (State.ROLLED_BACK, (Act.ROLL_BACK,))
        elif not is_ended(state):
            assert advance(state, Event.STOPPED) == (State.FAILED, (Act.ABANDON,))


def test_a_whole_life() -> None:
    """The way of an update that goes well."""
    state = State.ASSIGNED
    entered = []
    for event in (
        Event.PLAN_ARRIVED,
        Event.FETCH_BEGAN,
        Event.PROOF_COMPLETE,
        Event.TRIAL_PASSED,
        Event.PREPARED,
        Event.SWITCH_DONE,
        Event.PASSED,
    ):
        state, _ = advance(state, event)
        entered.append(state.value)
    assert entered == [
        "planned",
        "fetching",
        "proved",
        "tried",
        "switched",
        "on_probation",
        "committed",
    ]


def reachable(start: State) -> set[State]:
    found, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        for (before, _), (after, _) in TRANSITIONS.items():
            if before is state and after not in found:
                found.add(after)
                waiting.append(after)
    return found
