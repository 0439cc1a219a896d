"""Who may have a turn: all cores are used, but for one where a more urgent request is expected."""

from __future__ import annotations

import pytest

from device_agent.serving.scheduling.line import HIGH, LOW, MEDIUM, PRIORITIES
from device_agent.serving.scheduling.turns import Turns

SECOND_NS = 1_000_000_000


def taken(turns: Turns, priority: int, now_ns: int) -> int:
    """As many as one class gets."""
    count = 0
    while turns.is_free(priority, now_ns):
        turns.take(priority)
        count += 1
    assert not turns.enter(priority, now_ns)
    return count


@pytest.mark.parametrize("priority", PRIORITIES)
def test_one_class_by_itself_has_all_turns(priority: int) -> None:
    """Nothing is left to those who do not come, in the first moment of a clock too."""
    turns = Turns(3)
    turns.came(priority, 0)
    assert taken(turns, priority, 0) == 3
    turns.give_back(priority)
    assert taken(turns, priority, 0) == 1


@pytest.mark.parametrize(("above", "below"), [(HIGH, MEDIUM), (HIGH, LOW), (MEDIUM, LOW)])
def test_who_is_expected_finds_a_turn(above: int, below: int) -> None:
    """For a second and more after a request, those below leave its class one turn, no more."""
    turns = Turns(3)
    turns.came(above, 0)
    assert taken(turns, below, SECOND_NS) == 2
    assert turns.is_free(above, SECOND_NS)
    assert taken(turns, below, 2 * SECOND_NS) == 1


def test_nothing_is_left_to_those_below() -> None:
    """The most urgent class has all turns, whoever else came just now."""
    turns = Turns(2)
    turns.came(MEDIUM, 0)
    turns.came(LOW, 0)
    assert taken(turns, HIGH, 1) == 2


def test_one_turn_is_left_in_all_not_for_each_run_above() -> None:
    """Beside a run of the class above its turn is in use: the others are those below's, of which
    medium and low count together."""
    turns = Turns(3)
    assert turns.enter(HIGH, 0)
    assert turns.enter(MEDIUM, 0)
    assert turns.is_free(LOW, 1)
    assert turns.is_free(MEDIUM, 1)
    turns.take(LOW)
    turns.give_back(HIGH)
    assert not turns.is_free(MEDIUM, 1)
    assert turns.is_free(HIGH, 1)


def test_a_single_core_is_left_to_nobody() -> None:
    """With one turn, leaving it would be never running."""
    turns = Turns(1)
    turns.came(HIGH, 0)
    assert taken(turns, LOW, 1) == 1
