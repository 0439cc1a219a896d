"""The ring of requests that are followed."""

from __future__ import annotations

import random
import threading
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_agent.statistics_page import (
    Outcome,
    TraceReader,
    TraceWriter,
    layout,
    private_page,
)
from device_agent.statistics_page.traces import Caller, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


def note(writer: TraceWriter, row: int = 0) -> None:
    writer.note(row, Outcome.RAN, (1, 2, 3, 4), 8)


def test_a_request_of_a_trace_is_kept() -> None:
    """Who asked, when it ended and how long each phase took arrive at the reader, once."""
    page = private_page()
    writer, reader = TraceWriter(page, every=0), TraceReader(page)
    with writer.caller(SAMPLED):
        note(writer, row=5)
    note(writer)  # of nobody's trace
    (one,) = reader.read()
    assert (one.trace, one.caller) == (int(TRACE, 16), int(SPAN, 16))
    assert (one.row, one.outcome, one.times_ns, one.batch_size) == (5, Outcome.RAN, (1, 2, 3, 4), 8)
    assert one.end_ns > 1_600_000_000 * 10**9
    assert reader.read() == []


def test_one_in_so_many_begins_a_trace() -> None:
    """Requests without a caller's trace are kept at the configured rate; 0 keeps none."""
    page = private_page()
    writer, reader = TraceWriter(page, every=10), TraceReader(page)
    for _ in range(100):
        note(writer)
    assert [one.trace for one in reader.read()] == [0] * 10


def test_a_caller_that_wants_no_trace_gets_none() -> None:
    """The caller's choice counts before our own rate."""
    page = private_page()
    writer, reader = TraceWriter(page, every=1), TraceReader(page)
    with writer.caller(f"00-{TRACE}-{SPAN}-00"):
        note(writer)
    assert reader.read() == []


def test_each_thread_has_its_caller() -> None:
    """A trace belongs to the thread that serves its request, and to no other."""
    page = private_page()
    writer, reader = TraceWriter(page, every=0), TraceReader(page)
    with writer.caller(SAMPLED):
        other = threading.Thread(target=note, args=(writer,))
        other.start()
        other.join()
    assert reader.read() == []


def test_what_was_overwritten_is_counted() -> None:
    """A reader that comes late gets the newest ones, and says how many it missed."""
    page = private_page()
    writer, reader = TraceWriter(page, every=1), TraceReader(page)
    for number in range(layout.TRACES + 10):
        note(writer, row=number)
    rows = [one.row for one in reader.read()]
    assert rows == list(range(10, layout.TRACES + 10))
    assert reader.lost == 10


def test_numbers_go_on_after_a_restart() -> None:
    """A new writer on the page goes on behind the last record; a new reader tells none twice."""
    page = private_page()
    reader = TraceReader(page)
    note(TraceWriter(page, every=1), row=1)
    again = TraceWriter(page, every=1)
    note(again, row=2)
    assert [one.row for one in reader.read()] == [1, 2]
    late = TraceReader(page)
    note(again, row=3)
    assert [one.row for one in late.read()] == [3]


def test_a_record_that_is_being_written_is_not_told() -> None:
    """Half a record is lost, never shown."""
    page = private_page()
    writer, reader = TraceWriter(page, every=1), TraceReader(page)
    for row in (1, 2, 3):
        note(writer, row)
    page[layout.trace_begin(2)] = 0
    assert [one.row for one in reader.read()] == [1, 3]
    assert reader.lost == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, layout.TRACES - 1), max_size=20))
def test_any_ring_is_read(seed: int, numbered: list[int]) -> None:
    """Whatever stands on the page, reading it ends, and gives values."""
    page = private_page()
    reader = TraceReader(page)
    noise = random.Random(seed).randbytes((len(page) - layout.TRACES_BEGIN) * layout.WORD_BYTES)
    page[layout.TRACES_BEGIN :] = memoryview(array("Q", noise))
    for number in numbered:
        page[layout.trace_begin(number)] = number
    assert len(reader.read()) <= layout.TRACES
    TraceWriter(page, every=1)


@pytest.mark.parametrize(
    ("text", "sampled"),
    [(SAMPLED, True), (f"00-{TRACE}-{SPAN}-02", False), (f"cc-{TRACE}-{SPAN}-01-more", True)],
)
def test_traceparents_of_the_standard(text: str, sampled: bool) -> None:
    """Trace, span and the flag for sampling are read, of later versions too."""
    assert parse_traceparent(text) == Caller(
        trace=int(TRACE, 16), span=int(SPAN, 16), sampled=sampled
    )


@pytest.mark.parametrize(
    "text",
    [
        *("", "00", SAMPLED.upper(), f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01"),
        *(f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{SPAN}-01more", f"00-{TRACE}-{SPAN}"),
    ],
)
def test_other_texts_are_ignored(text: str) -> None:
    """What is not the standard's is as if it were not there."""
    assert parse_traceparent(text) is None
