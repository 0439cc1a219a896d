"""Which requests are a canary's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.serving.routing import Share
from device_agent.serving.sequences import Sequence


@given(st.floats(1e-9, 1, exclude_min=True), st.integers(1, 3000))
def test_the_share_is_kept_at_every_moment(share: float, requests: int) -> None:
    """After any number of requests the candidate had its share of them, to one; and at least
    one of 65,536."""
    route = Share(share)
    taken = sum(route.takes_next() for _ in range(requests))
    assert abs(taken - requests * share) <= 1 + requests / 65536


def test_requests_are_spread_evenly() -> None:
    """Every fourth, not the last quarter of them."""
    route = Share(0.25)
    assert [route.takes_next() for _ in range(8)] == [False, False, False, True] * 2


@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_a_sequence_stays_where_it_is(share: float) -> None:
    """Its id decides, the same each time and in each process; of many ids the share is the
    candidate's."""
    route = Share(share)
    for kind in (int, str):
        sequences = [Sequence(id=kind(number)) for number in range(4000)]
        taken = [route.takes(one) for one in sequences]
        assert taken == [Share(share).takes(one) for one in sequences]
        assert sum(taken) / 4000 == pytest.approx(share, abs=0.02)
