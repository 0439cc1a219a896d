"""Messages become values and back; what a device sends cannot break a column."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.services import wire
from distributor.services.wire import clean, to_check_in, to_event, to_request
from edge_sdk.base import Digest, EdgeError, FormatError, UsageError
from edge_sdk.protos import delivery_v1_pb2 as delivery
from edge_sdk.protos import fleet_v1_pb2 as fleet

TEXT = st.text(max_size=6_000)


@settings(max_examples=100, deadline=None)
@given(TEXT, TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=3), st.integers(0, 2**53 - 1))
def test_any_event_fits_its_columns(
    model: str, state: str, message: str, facts: dict[str, str], number: int
) -> None:
    """Whatever text an event holds, it can be stored: no NUL, no more than a column takes."""
    event = to_event(
        delivery.Event(number=number, model=model, state=state, message=message, facts=facts)
    )
    assert len(event.model) <= 127
    assert len(event.state) <= 32
    assert len(event.message) <= 4096
    assert "\x00" not in event.model + event.state + event.message + "".join(event.facts)
    assert to_event(delivery.Event(number=number, model=model)).number == number


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_check_in_is_a_value_or_a_typed_error(data: bytes) -> None:
    """Bytes that parse as a check-in become a value or an error of ours, nothing else."""
    request = delivery.CheckInRequest()
    try:
        request.MergeFromString(data)
    except Exception:  # noqa: BLE001 - protobuf refused it before us
        return
    try:
        assert to_check_in("cam-1", request).facts.device == "cam-1"
    except EdgeError as error:
        assert isinstance(error, (FormatError, UsageError))


def test_free_disk_of_zero_is_not_said() -> None:
    """A field that was never set must not mean that the device takes nothing."""
    assert to_check_in("cam-1", delivery.CheckInRequest()).facts.disk_free_bytes is None
    said = to_check_in("cam-1", delivery.CheckInRequest(disk_free_bytes=5))
    assert said.facts.disk_free_bytes == 5


def test_a_request_has_checked_names() -> None:
    """Cohort names are checked and sorted; retry is carried."""
    request = to_request(
        fleet.RolloutRequest(
            model="team/digits",
            version="1.0.0",
            cohort=fleet.Cohort(devices=["b", "a"], selector="site=x"),
            retry=True,
            together=[fleet.ModelVersion(model="team/letters", version="2.0.0")],
        )
    )
    assert request.cohort.devices == ("a", "b")
    assert {str(model): str(version) for model, version in request.wanted.items()} == {
        "team/digits": "1.0.0",
        "team/letters": "2.0.0",
    }
    assert (request.cohort.selector, request.retry) == ("site=x", True)
    with pytest.raises(FormatError):
        to_request(fleet.RolloutRequest(model="team/digits", version=""))


def test_digests_on_the_wire() -> None:
    """No bytes mean none; anything but 32 bytes is refused."""
    assert wire.maybe_digest(b"") is None
    assert wire.raw_digest(None) == b""
    one = Digest.of(b"x")
    assert wire.maybe_digest(wire.raw_digest(one)) == one
    with pytest.raises(FormatError):
        wire.to_digest(b"")
    assert clean("a\x00b", 1) == "a"
