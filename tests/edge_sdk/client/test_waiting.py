"""The row between who reads and who asks: order, bounds, and what is dropped."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import UsageError
from edge_sdk.client.waiting import Waiting, WhenFull

POLICIES: list[WhenFull] = ["block", "drop-oldest", "drop-newest"]


@given(st.sampled_from(POLICIES), st.integers(1, 4), st.lists(st.booleans(), max_size=60))
def test_it_is_a_bounded_row(when_full: WhenFull, size: int, puts: list[bool]) -> None:
    """Against the plainest model of each policy, for any interleaving of puts and takes: the same
    come out in the same order, and each of the others is dropped once."""
    dropped: list[int] = []
    row: Waiting[int] = Waiting(size, when_full, dropped.append)
    expected: deque[int] = deque()
    taken, left_out, lost = [], [], []
    for number, put in enumerate(puts):
        if not put:
            if expected:
                taken.append((row.take(), expected.popleft()))
        elif len(expected) < size:
            assert row.has_room()
            row.put(number)
            expected.append(number)
        elif when_full == "drop-oldest":
            assert row.has_room()
            row.put(number)
            expected.append(number)
            lost.append(expected.popleft())
        elif when_full == "drop-newest":
            assert not row.has_room()
            left_out.append(number)
    row.finish()
    while (one := row.take()) is not None:
        taken.append((one, expected.popleft()))
    assert not expected
    assert all(got == wanted for got, wanted in taken)
    assert dropped == lost
    if when_full == "block":
        assert not lost + left_out


@pytest.mark.parametrize("when_full", POLICIES)
def test_closing_ends_both_sides(when_full: WhenFull) -> None:
    """Who waits for room and who waits for one hear of it, and what waited is dropped."""
    dropped: list[int] = []
    row: Waiting[int] = Waiting(1, when_full, dropped.append)
    row.put(0)
    answers: list[object] = []
    sides = [threading.Thread(target=lambda: answers.append(row.has_room()))]
    if when_full == "block":
        sides[0].start()
    row.close()
    assert row.closed
    if when_full == "block":
        sides[0].join()
        assert answers == [False]
    assert not row.has_room()
    assert row.take() is None
    row.put(1)
    assert dropped == [0, 1]


def test_who_takes_waits_for_one() -> None:
    """And gets it, or the end."""
    row: Waiting[int] = Waiting(1, "block", lambda _: None)
    got: list[int | None] = []

    def take() -> None:
        got.extend(iter(row.take, None))

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(5):
        assert row.has_room()
        row.put(number)
    row.finish()
    thread.join()
    assert got == [0, 1, 2, 3, 4]


def test_what_makes_no_sense_is_refused() -> None:
    """No room at all, or a policy that is none."""
    with pytest.raises(UsageError, match="at least one"):
        Waiting(0, "block", print)
    with pytest.raises(UsageError, match="drop-oldest"):
        Waiting(1, "wait", print)  # type: ignore[arg-type]
