"""Who asks for too much is told when to come back; nobody else notices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import BusyError
from edge_sdk.rpc import OTHER, Admission, MethodLimits, Rate, limits_of, retry_after_s

WATCH, ASK = "/t.S/Watch", "/t.S/Ask"
TABLE = {WATCH: MethodLimits(each=2, all=3), ASK: MethodLimits(each=100)}


def _admission(burst: float = 1000.0, per_s: float = 10.0) -> Admission:
    return Admission(TABLE, Rate(burst=burst, per_s=per_s))


def test_calls_at_once_are_counted_by_caller_and_in_all() -> None:
    """The third watch of one caller is refused, so is the fourth of all; one that ends makes room."""
    admission = _admission()
    admission.enter("a", WATCH, 0.0)
    admission.enter("a", WATCH, 0.0)
    with pytest.raises(BusyError, match="2 calls of Watch by this caller") as refused:
        admission.enter("a", WATCH, 0.0)
    assert retry_after_s(refused.value) > 0
    admission.enter("a", ASK, 0.0)
    admission.enter("b", WATCH, 0.0)
    with pytest.raises(BusyError, match="3 calls of Watch are under way"):
        admission.enter("c", WATCH, 0.0)
    admission.leave("a", WATCH)
    admission.enter("c", WATCH, 0.0)
    assert admission.under_way(WATCH) == 3


def test_the_bucket_fills_again() -> None:
    """After a burst a caller gets its rate and no more; the refusal says exactly when."""
    admission = _admission(burst=3, per_s=2.0)
    for _ in range(3):
        admission.enter("a", ASK, 100.0)
    with pytest.raises(BusyError) as refused:
        admission.enter("a", ASK, 100.1)
    wait_s = retry_after_s(refused.value)
    assert wait_s == pytest.approx(0.4)
    admission.enter("a", ASK, 100.1 + wait_s)
    admission.enter("b", ASK, 100.1)


def test_a_wait_is_never_none() -> None:
    """Who has all but a token's hair hears of a time, too, not of none."""
    admission = _admission(burst=1, per_s=1000.0)
    admission.enter("a", ASK, 0.0)
    with pytest.raises(BusyError) as refused:
        admission.enter("a", ASK, 0.000_999_9)
    assert retry_after_s(refused.value) >= 0.001


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """A time before the last one refills nothing, and later time counts from the last one."""
    admission = _admission(burst=1, per_s=1.0)
    admission.enter("a", ASK, 50.0)
    for now_s in (0.0, 49.0, 50.9):
        with pytest.raises(BusyError):
            admission.enter("a", ASK, now_s)
    admission.enter("a", ASK, 51.1)


def test_callers_are_forgotten() -> None:
    """A hundred thousand names, one call each, leave a table of a few thousand at most."""
    admission = _admission(burst=10, per_s=10.0)
    for number in range(100_000):
        admission.enter(f"device-{number}", ASK, number / 1000)
        admission.leave(f"device-{number}", ASK)
    assert admission.callers < 3000


def test_a_caller_with_open_calls_is_not_forgotten() -> None:
    """However many others come, what is under way stays counted."""
    admission = _admission()
    admission.enter("a", WATCH, 0.0)
    admission.enter("a", WATCH, 0.0)
    for number in range(5000):
        admission.enter(f"b{number}", ASK, 1e6 + number)
        admission.leave(f"b{number}", ASK)
    with pytest.raises(BusyError):
        admission.enter("a", WATCH, 2e6)


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans(), st.floats(0, 5)), max_size=80),
    st.integers(1, 5),
    st.floats(0.1, 5),
)
def test_never_more_than_the_bucket_allows(
    steps: list[tuple[str, bool, float]], burst: int, per_s: float
) -> None:
    """Within any time, a caller has at most its burst and what flowed in; counts never go wrong."""
    admission = Admission({}, Rate(burst=burst, per_s=per_s))
    now_s = 0.0
    passed = {"a": 0, "b": 0}
    under_way = {"a": 0, "b": 0}
    for who, ends, later_s in steps:
        now_s += later_s
        if ends and under_way[who]:
            admission.leave(who, ASK)
            under_way[who] -= 1
            continue
        try:
            admission.enter(who, ASK, now_s)
        except BusyError:
            continue
        passed[who] += 1
        under_way[who] += 1
        assert passed[who] <= burst + now_s * per_s + 1e-6
        assert under_way[who] <= OTHER.each
    assert admission.under_way(ASK) == sum(under_way.values())


def test_a_method_without_a_row_has_limits_too() -> None:
    """What no table names is limited like any other."""
    assert limits_of(TABLE, "/t.S/New") is OTHER
    assert OTHER.message_bytes <= 4 << 20
