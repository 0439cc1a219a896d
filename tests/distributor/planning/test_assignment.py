"""Assignments: the whole desired state, numbered, changed one model at a time."""

from __future__ import annotations

from distributor.planning import change, empty_assignment, order
from edge_sdk.manifest import decode_assignment, encode_assignment
from tests.support.planning_facts import artifact

DIGITS = artifact(version="2.0.0")
FACES = artifact(model="team/faces")
EARS = artifact(model="team/ears")
NOTHING = empty_assignment("gate-7")


def ordered(facts, rollout="r-1", before=0, retry=False):
    return order(facts, rollout=rollout, attempts_before=before, retry=retry)


def assign(previous, *orders, arrived=True):
    wanted = {one.model: one for one in orders}
    return change(previous, wanted, has_arrived=lambda _: arrived)


def withdraw(previous, *models, arrived=True):
    return change(previous, dict.fromkeys(models), has_arrived=lambda _: arrived)


def groups(assignment):
    assert decode_assignment(encode_assignment(assignment)) == assignment
    return [[one.text.removeprefix("team/") for one in group] for group in assignment.groups]


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


def test_models_of_one_order_are_a_group() -> None:
    """Several models that are ordered at once come in one assignment, as one group, sorted;
    ordering them again changes nothing."""
    both = assign(NOTHING, ordered(FACES), ordered(DIGITS))
    assert both.counter == 1
    assert groups(both) == [["digits", "faces"]]
    assert assign(both, ordered(DIGITS), ordered(FACES)) is both
    assert groups(assign(both, ordered(EARS))) == [["digits", "faces"]]


def test_a_group_that_has_arrived_is_free() -> None:
    """Once the device runs all of a group, a later order of one model is about that alone."""
    both = assign(NOTHING, ordered(DIGITS), ordered(FACES))
    newer = ordered(artifact(version="3.0.0"), "r-2")
    assert groups(assign(both, newer, arrived=True)) == []
    assert groups(assign(both, newer, ordered(EARS), arrived=True)) == [["digits", "ears"]]


def test_who_changes_on_the_way_changes_within_the_group() -> None:
    """Until the device runs all of a group, a newer version of one waits for the others, and
    so does what is ordered together with it."""
    both = assign(NOTHING, ordered(DIGITS), ordered(FACES))
    newer = ordered(artifact(version="3.0.0"), "r-2")
    after = assign(both, newer, arrived=False)
    assert groups(after) == [["digits", "faces"]]
    assert [str(one.version) for one in after.models] == ["3.0.0", str(FACES.version)]
    grown = assign(both, newer, ordered(EARS), arrived=False)
    assert groups(grown) == [["digits", "ears", "faces"]]


def test_a_group_goes_without_the_model_that_is_withdrawn() -> None:
    """Nobody waits for a model that this device does not have any more."""
    three = assign(NOTHING, ordered(DIGITS), ordered(FACES), ordered(EARS))
    two = withdraw(three, DIGITS.model, arrived=False)
    assert groups(two) == [["ears", "faces"]]
    assert groups(withdraw(two, FACES.model, arrived=False)) == []
    assert withdraw(three, *(one.model for one in three.models)).models == ()
