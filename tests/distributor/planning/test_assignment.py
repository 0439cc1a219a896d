"""Assignments: the whole desired state, numbered, changed one model at a time."""

from __future__ import annotations

from dataclasses import replace

from distributor.planning import assign, empty_assignment, order, withdraw
from edge_sdk.manifest import decode_assignment, encode_assignment
from tests.support.planning_facts import artifact

DIGITS = artifact(version="2.0.0")
FACES = artifact(model="team/faces")


def ordered(facts, rollout="r-1", before=0, retry=False):
    return order(facts, rollout=rollout, attempts_before=before, retry=retry)


def test_first_order_is_attempt_one() -> None:
    """What was never ordered for a device is its first attempt, asked for or not."""
    assert ordered(DIGITS).attempt == 1
    assert ordered(DIGITS, retry=True).attempt == 1


def test_attempt_grows_only_on_retry() -> None:
    """Ordering the same again does not make a device that refused it try again; retry does."""
    assert ordered(DIGITS, before=3).attempt == 3
    assert ordered(DIGITS, before=3, retry=True).attempt == 4


def test_other_models_are_carried_over() -> None:
    """An assignment is the whole state: changing one model keeps the others, sorted."""
    first = assign(empty_assignment("gate-7"), ordered(FACES))
    second = assign(first, ordered(DIGITS, "r-2"))
    third = assign(second, ordered(artifact(version="3.0.0"), "r-3"))
    assert [str(one.model) for one in third.models] == ["team/digits", "team/faces"]
    assert str(third.models[0].version) == "3.0.0"
    assert [first.counter, second.counter, third.counter] == [1, 2, 3]
    assert decode_assignment(encode_assignment(third)) == third


def test_same_order_wakes_nobody() -> None:
    """Assigning what is assigned already gives the very same value, with the same number."""
    first = assign(empty_assignment("gate-7"), ordered(DIGITS))
    assert assign(first, ordered(DIGITS)) is first
    assert assign(first, ordered(DIGITS, before=1, retry=True)).counter == 2


def test_withdrawn_model_is_absent() -> None:
    """A model that is withdrawn is absent, which unloads it; twice changes nothing."""
    both = assign(assign(empty_assignment("gate-7"), ordered(DIGITS)), ordered(FACES))
    left = withdraw(both, DIGITS.model)
    assert [one.model for one in left.models] == [FACES.model]
    assert left.counter == 3
    assert withdraw(left, DIGITS.model) is left


def test_going_down_is_said_until_the_highest_version_is_reached_again() -> None:
    """A device that missed an assignment in between still hears that it may go down."""
    third = assign(empty_assignment("gate-7"), ordered(artifact(version="3.0.0")))
    first = assign(third, ordered(artifact(version="1.0.0")))
    second = assign(first, ordered(artifact(version="2.0.0")))
    again = assign(second, ordered(artifact(version="3.0.0"), "r-2"))
    from_versions = [one.models[0].downgrade_from for one in (third, first, second, again)]
    assert list(map(str, from_versions)) == ["None", "3.0.0", "3.0.0", "None"]
    assert assign(first, ordered(artifact(version="1.0.0"))) is first
    assert decode_assignment(encode_assignment(second)) == second


def test_a_group_ends_with_one_of_its_models() -> None:
    """What is left of it would wait for a model that this device does not have any more."""
    both = assign(assign(empty_assignment("gate-7"), ordered(DIGITS)), ordered(FACES))
    grouped = replace(both, groups=((DIGITS.model, FACES.model),))
    assert assign(grouped, ordered(DIGITS, retry=True, before=1)).groups == grouped.groups
    assert withdraw(grouped, FACES.model).groups == ()
