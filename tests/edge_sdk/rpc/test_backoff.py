"""Back-off grows, has full jitter, and never more than its cap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.rpc import Backoff


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
