"""The life of one update as a table: what happened, in which state, leads where. Pure.

``run.py`` is the only caller: it journals the state entered, then performs the acts. Every
act can be performed again (starting the agent is the event RESUMED in whatever state the
journal ends with), so a cut between journal and act costs nothing but time.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from edge_sdk.base.errors import RefusedError


class State(str, Enum):
    """Where an update stands. The values travel in reports."""

    ASSIGNED = "assigned"
    PLANNED = "planned"
    FETCHING = "fetching"
    PROVED = "proved"
    TRIED = "tried"
    SWITCHED = "switched"
    ON_PROBATION = "on_probation"
    COMMITTED = "committed"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


class Event(str, Enum):
    """What can happen to an update."""

    RESUMED = "resumed"  # the agent was started; the journal says that this is under way
    RETRY_DUE = "retry_due"  # a back-off is over, or space changed
    PLAN_ARRIVED = "plan_arrived"  # and it fits: disk, memory, engine
    ALREADY_HELD = "already_held"  # every file is here; nothing to send
    NOT_FITTING = "not_fitting"  # known before the download
    FETCH_BEGAN = "fetch_began"
    INTERRUPTED = "interrupted"  # link, peer, proof or space: not the version's fault
    PLAN_UNUSABLE = "plan_unusable"  # a source is rotten, or a delta is damaged where it lies
    GAVE_UP = "gave_up"  # interrupted too often; tried anew much later
    PROOF_COMPLETE = "proof_complete"
    TRIAL_PASSED = "trial_passed"
    TRIAL_FAILED = "trial_failed"
    PREPARED = "prepared"
    PREPARE_FAILED = "prepare_failed"
    SWITCH_DONE = "switch_done"
    SWITCH_FAILED = "switch_failed"
    CRASHED = "crashed"  # inference died while the candidate served
    DIES_AT_START = "dies_at_start"  # of inference, again and again, since this was committed
    PASSED = "passed"
    UNPROVED = "unproved"
    WORSE = "worse"
    STOPPED = "stopped"  # superseded, or the model is no longer assigned
    ROLLBACK_ASKED = "rollback_asked"


class Act(str, Enum):
    """What the driver does after the new state is durable."""

    PLAN = "plan"
    FETCH = "fetch"
    WAIT = "wait"  # back off, then RETRY_DUE
    TRY = "try"
    PREPARE = "prepare"
    SWITCH = "switch"  # the slot, then the message
    WATCH = "watch"
    COMMIT = "commit"
    ROLL_BACK = "roll_back"
    STEP_BACK = "step_back"  # the slot alone: inference does not live to hear a message
    ABANDON = "abandon"  # drop what was prepared; the active artifact was never touched
    REMEMBER = "remember"  # a verdict: block this artifact until a higher attempt


S, E, A = State, Event, Act
Outcome = tuple[State, tuple[Act, ...]]

_PENDING = (S.ASSIGNED, S.PLANNED, S.FETCHING)  # nothing of it is usable yet
_BEFORE_SWITCH = (*_PENDING, S.PROVED, S.TRIED)
_SERVING = (S.SWITCHED, S.ON_PROBATION)
_ENDED = (S.COMMITTED, S.FAILED, S.ROLLED_BACK)

TRANSITIONS: Mapping[tuple[State, Event], Outcome] = MappingProxyType(
    {
        # To the bytes. A state is never left backwards: a second plan in FETCHING stays there.
        (S.ASSIGNED, E.PLAN_ARRIVED): (S.PLANNED, (A.FETCH,)),
        (S.PLANNED, E.PLAN_ARRIVED): (S.PLANNED, (A.FETCH,)),
        (S.FETCHING, E.PLAN_ARRIVED): (S.FETCHING, (A.FETCH,)),
        (S.PLANNED, E.FETCH_BEGAN): (S.FETCHING, ()),
        (S.FETCHING, E.FETCH_BEGAN): (S.FETCHING, ()),
        **{(state, E.ALREADY_HELD): (S.PROVED, (A.TRY,)) for state in _PENDING},
        **{(state, E.NOT_FITTING): (S.FAILED, (A.ABANDON, A.WAIT)) for state in _PENDING},
        **{(state, E.INTERRUPTED): (state, (A.WAIT,)) for state in _BEFORE_SWITCH},
        **{(state, E.PLAN_UNUSABLE): (state, (A.PLAN,)) for state in _PENDING},
        # Rotted after it was proved.
        **{(state, E.PLAN_UNUSABLE): (S.FETCHING, (A.PLAN,)) for state in (S.PROVED, S.TRIED)},
        **{(state, E.GAVE_UP): (S.FAILED, (A.ABANDON, A.WAIT)) for state in _BEFORE_SWITCH},
        (S.FETCHING, E.PROOF_COMPLETE): (S.PROVED, (A.TRY,)),
        # Trial and switch.
        (S.PROVED, E.TRIAL_PASSED): (S.TRIED, (A.PREPARE,)),
        (S.PROVED, E.TRIAL_FAILED): (S.FAILED, (A.REMEMBER, A.ABANDON)),
        (S.TRIED, E.PREPARED): (S.SWITCHED, (A.SWITCH,)),
        (S.TRIED, E.PREPARE_FAILED): (S.FAILED, (A.REMEMBER, A.ABANDON)),
        (S.SWITCHED, E.SWITCH_DONE): (S.ON_PROBATION, (A.WATCH,)),
        (S.SWITCHED, E.PREPARED): (S.SWITCHED, (A.SWITCH,)),
        (S.ON_PROBATION, E.PREPARED): (S.ON_PROBATION, (A.SWITCH,)),
        (S.ON_PROBATION, E.SWITCH_DONE): (S.ON_PROBATION, (A.WATCH,)),
        # Probation.
        (S.ON_PROBATION, E.PASSED): (S.COMMITTED, (A.COMMIT,)),
        (S.ON_PROBATION, E.UNPROVED): (S.COMMITTED, (A.COMMIT,)),
        (S.ON_PROBATION, E.WORSE): (S.ROLLED_BACK, (A.REMEMBER, A.ROLL_BACK)),
        **{
            (state, event): (S.ROLLED_BACK, (A.REMEMBER, A.ROLL_BACK))
            for state in _SERVING
            for event in (E.CRASHED, E.PREPARE_FAILED, E.SWITCH_FAILED, E.ROLLBACK_ASKED)
        },
        # Somebody wants something else.
        **{(state, E.STOPPED): (S.FAILED, (A.ABANDON,)) for state in _BEFORE_SWITCH},
        **{(state, E.STOPPED): (S.ROLLED_BACK, (A.ROLL_BACK,)) for state in _SERVING},
        (S.COMMITTED, E.ROLLBACK_ASKED): (S.ROLLED_BACK, (A.REMEMBER,)),
        (S.COMMITTED, E.DIES_AT_START): (S.ROLLED_BACK, (A.REMEMBER, A.STEP_BACK)),
        # Again.
        **{(state, E.RETRY_DUE): (state, (A.PLAN,)) for state in _PENDING},
        (S.PROVED, E.RETRY_DUE): (S.PROVED, (A.TRY,)),
        (S.TRIED, E.RETRY_DUE): (S.TRIED, (A.PREPARE,)),
        (S.FAILED, E.RETRY_DUE): (S.ASSIGNED, (A.PLAN,)),
        **{(state, E.RESUMED): (state, (A.PLAN,)) for state in _PENDING},
        (S.PROVED, E.RESUMED): (S.PROVED, (A.TRY,)),
        (S.TRIED, E.RESUMED): (S.TRIED, (A.PREPARE,)),
        (S.SWITCHED, E.RESUMED): (S.SWITCHED, (A.PREPARE,)),
        (S.ON_PROBATION, E.RESUMED): (S.ON_PROBATION, (A.PREPARE,)),
        (S.COMMITTED, E.RESUMED): (S.COMMITTED, (A.COMMIT,)),
        (S.FAILED, E.RESUMED): (S.FAILED, (A.ABANDON,)),
        (S.ROLLED_BACK, E.RESUMED): (S.ROLLED_BACK, (A.ROLL_BACK, A.STEP_BACK)),
    }
)

# Answers to questions that were asked before the update moved on: nothing happens.
LATE = frozenset(
    {
        *((state, E.STOPPED) for state in _ENDED),
        *((S.COMMITTED, event) for event in (E.PREPARED, E.SWITCH_DONE, E.CRASHED)),
        *(
            (state, event)
            for state in (S.FAILED, S.ROLLED_BACK)
            for event in (
                E.PREPARED,
                E.PREPARE_FAILED,
                E.SWITCH_DONE,
                E.SWITCH_FAILED,
                E.CRASHED,
            )
        ),
        *((state, E.RETRY_DUE) for state in (*_SERVING, S.COMMITTED, S.ROLLED_BACK)),
    }
)


def advance(state: State, event: Event) -> Outcome:
    """The state entered and the acts to perform there, in order.

    Raises: RefusedError that names the pair, where that event makes no sense in that state.
    """
    if (state, event) in LATE:
        return state, ()
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise RefusedError(
            f"{event.value!r} cannot happen to an update that is {state.value!r}",
            state=state.value,
            event=event.value,
        ) from None


def is_ended(state: State) -> bool:
    """Nothing more happens by itself (a failed one may be begun again)."""
    return state in _ENDED


def is_before_switch(state: State) -> bool:
    """Nothing of the candidate serves: it can be taken up again from what is proved."""
    return state in _BEFORE_SWITCH


def is_serving(state: State) -> bool:
    """The candidate answers requests, and is not yet kept."""
    return state in _SERVING
