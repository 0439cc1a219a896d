"""Two looks at the statistics as one document."""

from __future__ import annotations

import json

import pytest

from device_agent.cli.usage import between, is_loaded, usage
from device_agent.statistics_page import PageSnapshot, PageWriter, private_page, read_page
from tests.support.used_page import counters, use, used_page, used_words


def test_rates_and_recent_times_are_of_the_interval() -> None:
    """What came between two looks makes the rates; what was before makes the totals."""
    words = private_page()
    statistics = counters(PageWriter(words, pid=1), "team/digits", 1)
    use(statistics, requests=500)
    before = read_page(words)
    for _ in range(30):
        statistics.succeeded(queue_ns=100, input_ns=100, infer_ns=800_000, output_ns=100)
    statistics.failed(whole_ns=1, engine=True)
    document = usage(before, read_page(words), now_ms=10, interval_s=2.0)
    (model,) = document["models"]
    assert (model["requests"], model["failed"], model["errors"]) == (530, 1, 1)
    assert (model["requests_per_s"], model["failed_per_s"]) == (15.0, 0.5)
    assert model["recent"]["compute"]["count"] == 30
    assert model["recent"]["compute"]["p50_ms"] == pytest.approx(0.8, rel=0.12)
    assert model["phases"]["compute"]["p50_ms"] == pytest.approx(0.003, rel=0.12)
    assert model["phases"]["compute"]["p99_ms"] == pytest.approx(0.8, rel=0.3)


def test_a_document_is_plain_and_whole() -> None:
    """Everything that is on the page is in it, and it is JSON."""
    page = used_page()
    document = usage(page, page, now_ms=page.beat_ms + 1, interval_s=1.0)
    json.dumps(document)
    assert document["inference"]["fresh"]
    assert document["pool"]["used_bytes"] == 60
    old, digits, words = sorted(document["models"], key=lambda one: one["artifact"])
    assert [is_loaded(one) for one in (old, digits, words)] == [False, True, True]
    assert digits["requests_per_s"] == 0.0
    assert digits["recent"]["queue"]["p50_ms"] is None
    assert digits["batch_sizes"] == {"1": 1000}
    assert (words["batch_sizes"], words["batch_mean"]) == ({"2": 1}, 2.0)
    assert document["inference"]["waiting"] == {"high": 1, "medium": 2, "low": 3}
    assert (digits["waiting"], digits["running"]) == (4, 1)
    assert digits["cache"]["memory_hit_rate"] == 6 / 11
    assert digits["cache"]["file_hit_rate"] == 1 / 4
    assert words["cache"] is None


def test_a_process_that_stands_still_is_told() -> None:
    """Gauges that were not set for seconds are called old; so is a process that never ran."""
    page = read_page(used_words())
    late_ms = page.beat_ms + 3001
    assert not usage(page, page, now_ms=late_ms, interval_s=1.0)["inference"]["fresh"]
    never = usage(PageSnapshot(), PageSnapshot(), now_ms=5, interval_s=1.0)
    assert (never["inference"]["fresh"], never["models"]) == (False, [])


def test_what_was_done_between_two_looks() -> None:
    """Requests, runs and times of the interval, of those that did anything, new ones too."""
    words = private_page()
    writer = PageWriter(words, pid=1)
    statistics = counters(writer, "team/digits", 1)
    counters(writer, "team/idle", 2)
    use(statistics, requests=500)
    before = read_page(words)
    for _ in range(30):
        statistics.succeeded(queue_ns=100, input_ns=100, infer_ns=800_000, output_ns=100)
    use(counters(writer, "team/new", 3), requests=7)
    digits, new = between(before, read_page(words))
    assert (digits["model"], digits["answered"], digits["batch_mean"]) == ("team/digits", 30, 1.0)
    assert digits["phases"]["compute"]["count"] == 30
    assert digits["phases"]["compute"]["mean_ms"] == pytest.approx(0.8)
    assert (new["model"], new["answered"]) == ("team/new", 7)
    assert between(before, before) == []
