"""A request is counted alike by what was compiled and by Python."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agent.statistics_page import Row, layout
from device_agent.statistics_page.histogram import TIME_NS_MAX, bucket_of
from device_agent.statistics_page.sums import plain_ran, ran, within

NS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(0, 1 << 15),
    st.integers(0, 39).map(lambda bit: 1 << bit),
)


def compiled() -> Any:
    return pytest.importorskip("device_agent.statistics_page._sums", exc_type=ImportError).ran


@given(requests=st.lists(st.tuples(NS, NS, NS, NS), max_size=20), batched=st.booleans())
def test_both_count_the_same(requests: list[tuple[int, int, int, int]], batched: bool) -> None:
    """Whatever the times are, each word of the row is the same, but for the clock's."""
    by_c, by_python = Row.private().words, Row.private().words
    at = layout.BATCHED if batched else layout.ALONE
    for times_ns in requests:
        compiled()(by_c, at, *times_ns)
        plain_ran(by_python, at, *times_ns)
    assert (by_c[layout.LAST_NS] > 0) == bool(requests)
    by_c[layout.LAST_NS] = by_python[layout.LAST_NS] = 0
    assert by_c.tolist() == by_python.tolist()


@pytest.mark.parametrize("which", ["compiled", "plain"])
def test_counts_sums_and_buckets(which: str) -> None:
    """A count, four sums, five buckets and the wall clock."""
    count = plain_ran if which == "plain" else compiled()
    words = Row.private().words
    times_ns = (10, 2_000, 30_000, TIME_NS_MAX + 5)
    began_ns = time.time_ns()
    count(words, layout.ALONE, *times_ns)
    assert began_ns <= words[layout.LAST_NS] <= time.time_ns()
    kept_ns = [within(one) for one in times_ns]
    assert words[layout.ALONE : layout.ALONE + 5].tolist() == [1, *kept_ns]
    for phase, time_ns in enumerate([*kept_ns, sum(kept_ns)]):
        assert words[layout.histogram_begin(phase) + bucket_of(time_ns)] == 1
    assert sum(word != 0 for word in words.tolist()) == 1 + 5 + 5


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (TypeError, (layout.ALONE, 1, 2, 3)),
        (TypeError, (layout.ALONE, 1, 2, 3, "4")),
        (TypeError, ("at", 1, 2, 3, 4)),
        (OverflowError, (layout.ALONE, 1, 2, 3, 1 << 63)),
        (ValueError, (layout.GAUGES - 4, 1, 2, 3, 4)),
        (ValueError, (layout.COUNTERS - 1, 1, 2, 3, 4)),
        (ValueError, (-1, 1, 2, 3, 4)),
    ],
)
def test_other_arguments_are_refused(error: type[Exception], arguments: tuple[Any, ...]) -> None:
    """Nothing is counted."""
    words = Row.private().words
    with pytest.raises(error):
        compiled()(words, *arguments)
    assert not any(words.tolist())


def test_nothing_outside_of_a_row_is_written() -> None:
    """Too few words, words across words, and words that may not be written are refused."""
    row = bytearray(layout.ROW_WORDS * layout.WORD_BYTES)
    for words in (memoryview(row)[1:], memoryview(row)[: layout.HISTOGRAMS * layout.WORD_BYTES]):
        with pytest.raises(ValueError, match="row"):
            compiled()(words, layout.ALONE, 1, 2, 3, 4)
    with pytest.raises(BufferError):
        compiled()(bytes(row), layout.ALONE, 1, 2, 3, 4)
    assert not any(row)


def test_the_compiled_one_is_used_where_it_is() -> None:
    """Else Python counts."""
    assert ran is compiled()
