"""How long a request of the protocol may wait."""

from __future__ import annotations

import threading

import pytest

from device_agent.serving.doors.model_infer import patience_s
from edge_sdk.base import UnavailableError


@pytest.mark.parametrize(
    ("own_s", "left_s", "expected_s"),
    [
        *((None, None, None), (None, 5.0, 5.0), (2.0, None, 2.0), (2.0, 5.0, 2.0)),
        *((2.0, 1.0, 1.0), (None, 9.2e18, None), (3.0, 9.2e18, 3.0)),
    ],
)
def test_the_shorter_patience_counts(
    own_s: float | None, left_s: float | None, expected_s: float | None
) -> None:
    """The call's deadline and the request's own timeout, where they are given; what gRPC says of
    a call without a deadline is none, and more than a lock could wait."""
    got = patience_s(own_s, left_s)
    assert got == expected_s
    assert got is None or got < threading.TIMEOUT_MAX


def test_a_request_that_nobody_waits_for_is_not_run() -> None:
    """Over its deadline when its thread comes free, it ends there."""
    with pytest.raises(UnavailableError):
        patience_s(None, 0.0)
