"""Back-off grows, has full jitter, and never more than its cap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.base import BusyError, UnavailableError
from edge_sdk.rpc import Backoff, retry_after_s


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True))
def test_delay_is_within_its_bounds(attempt: int, chance: float) -> None:
    """Any attempt waits between nothing and the smaller of cap and doubled base."""
    backoff = Backoff(base_s=0.5, cap_s=20.0)
    delay_s = backoff.delay_s(attempt, chance)
    assert 0 <= delay_s <= min(20.0, 0.5 * 2 ** min(attempt, 60))


def test_delay_doubles_until_the_cap() -> None:
    """At equal chance each attempt waits twice as long, up to the cap."""
    backoff = Backoff(base_s=1.0, cap_s=10.0)
    assert [backoff.delay_s(attempt, 0.5) for attempt in range(6)] == [0.5, 1, 2, 4, 5, 5]


def test_jitter_reaches_down_to_zero() -> None:
    """Full jitter: a lucky caller comes back at once, so that a herd is spread."""
    assert Backoff().delay_s(20, 0.0) == 0.0


def test_what_a_peer_asks_for_comes_first() -> None:
    """A busy peer's time is waited for, and the drawn delay after it, so that a herd is spread."""
    backoff = Backoff(base_s=1.0, cap_s=10.0)
    busy = BusyError("busy", retry_after_s="7.5")
    assert backoff.delay_s(3, 0.5, after=busy) == 7.5 + 4.0
    assert backoff.delay_s(3, 0.5, after=UnavailableError("gone")) == 4.0
    assert backoff.delay_s(3, 0.5, after=OSError()) == 4.0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("nan", 0), ("inf", 0), ("-5", 0), ("soon", 0), (None, 0), ([], 0), ("1e99", 3600), (2, 2)],
)
def test_what_a_peer_says_is_not_trusted(said: object, seconds: float) -> None:
    """No number, a negative one, one without end: nobody waits for more than an hour."""
    assert retry_after_s(BusyError("busy", retry_after_s=said)) == seconds
