"""The statistics page as a message of AgentService, and back."""

from __future__ import annotations

import pytest

from device_agent.local_api.statistics_wire import from_message, to_message
from device_agent.statistics_page import PageSnapshot
from edge_sdk.base import FormatError
from edge_sdk.protos import agent_v1_pb2 as wire
from tests.support.used_page import used_page


def test_values_survive_the_wire() -> None:
    """What is asked for is what stood on the page, bucket by bucket."""
    page = used_page()
    message = to_message(page, now_ms=5)
    again = from_message(wire.StatisticsResponse.FromString(message.SerializeToString()))
    assert again == page
    phase = next(one for one in message.models[0].phases if one.phase == "compute")
    assert phase.p50_ns == pytest.approx(3000, rel=0.12)
    assert phase.p50_ns <= phase.p99_ns <= phase.p999_ns
    assert len(phase.buckets) < 60  # what was never counted does not travel


def test_a_page_of_nothing_travels_too() -> None:
    """Before inference started there is an empty answer, not an error."""
    assert from_message(to_message(PageSnapshot(), now_ms=1)) == PageSnapshot()


@pytest.mark.parametrize(
    "model",
    [
        wire.ModelUse(state="dreaming"),
        wire.ModelUse(state="loaded", phases=[wire.PhaseTimes(buckets=[1] * 161)]),
    ],
)
def test_what_no_agent_says_is_refused(model: wire.ModelUse) -> None:
    """An unknown state and more buckets than there are come from another release."""
    with pytest.raises(FormatError):
        from_message(wire.StatisticsResponse(models=[model]))
