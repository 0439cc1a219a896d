"""Traced requests as spans."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from device_agent.metrics.spans import Spans, exporter_to
from device_agent.serving.statistics import Statistics
from device_agent.statistics_page import Described, PageWriter, private_page
from tests.support.trace_collector import trace_collector

TRACE, SPAN = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
CALLER = f"00-{TRACE:032x}-{SPAN:016x}-01"


class Model:
    """A page with one model, of which every request is traced."""

    def __init__(self) -> None:
        self.words = private_page()
        page = PageWriter(self.words, pid=1, trace_every=1)
        row = page.claim(
            Described(model="a/b", version="1.0.0", variant="v", engine="e", artifact=bytes(32))
        )
        assert row is not None
        assert page.tracer is not None
        self.tracer = page.tracer
        self.statistics = Statistics(row, tracer=page.tracer)

    def run(self) -> None:
        self.statistics.succeeded(
            queue_ns=1000, input_ns=200, infer_ns=30, output_ns=4, batch_size=2, leads=True
        )


@pytest.fixture
def model() -> Model:
    return Model()


def test_a_run_is_a_span_with_its_phases(model: Model) -> None:
    """The request is a child of its caller's span; phases follow each other inside it."""
    exporter = InMemorySpanExporter()
    spans = Spans(model.words, exporter, device="kiosk-7")
    with model.tracer.caller(CALLER):
        model.run()
    assert spans.send() == 1
    *phases, root = exporter.get_finished_spans()
    assert root.name == "infer a/b"
    assert root.kind is SpanKind.SERVER
    assert root.parent is not None
    assert (root.context.trace_id, root.parent.span_id) == (TRACE, SPAN)
    assert root.end_time - root.start_time == 1234
    assert dict(root.attributes) == {
        **{"edge.model": "a/b", "edge.version": "1.0.0", "edge.artifact": "00" * 32},
        **{"edge.engine": "e", "edge.outcome": "ran", "edge.batch_size": 2},
    }
    assert root.resource.attributes["service.instance.id"] == "kiosk-7"
    assert [one.name for one in phases] == ["queue", "input", "compute", "output"]
    assert [one.end_time - one.start_time for one in phases] == [1000, 200, 30, 4]
    begin = root.start_time
    for one in phases:
        assert one.start_time == begin
        assert one.parent.span_id == root.context.span_id
        begin = one.end_time
    assert begin == root.end_time


def test_a_request_of_nobody_begins_a_trace(model: Model) -> None:
    """Sampled requests are roots of traces of their own."""
    exporter = InMemorySpanExporter()
    spans = Spans(model.words, exporter, device="kiosk-7")
    model.run()
    model.run()
    spans.send()
    roots = [one for one in exporter.get_finished_spans() if one.parent is None]
    assert len({one.context.trace_id for one in roots}) == 2


def test_what_did_not_run_has_no_phases(model: Model) -> None:
    """An answer out of the cache is one span, a failure one with that status."""
    exporter = InMemorySpanExporter()
    spans = Spans(model.words, exporter, device="kiosk-7")
    model.statistics.found(whole_ns=500)
    model.statistics.failed(whole_ns=700, engine=False)
    spans.send()
    cached, failed = exporter.get_finished_spans()
    assert (cached.attributes["edge.outcome"], cached.end_time - cached.start_time) == (
        "cached",
        500,
    )
    assert cached.status.status_code is StatusCode.UNSET
    assert failed.status.status_code is StatusCode.ERROR


class Moody(SpanExporter):
    """Answers as it is told."""

    answer = SpanExportResult.FAILURE

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self.answer


def test_a_collector_that_is_away_is_said_once(model: Model) -> None:
    """One line when spans stop to arrive and one when they arrive again, however many."""
    said: list[str] = []
    exporter = Moody()
    spans = Spans(model.words, exporter, device="kiosk-7", say=said.append)
    for exporter.answer in (
        *[SpanExportResult.SUCCESS] * 2,
        *[SpanExportResult.FAILURE] * 3,
        *[SpanExportResult.SUCCESS] * 2,
    ):
        model.run()
        spans.send()
    assert ["dropped" in line for line in said] == [True, False]


def test_a_collector_gets_them(model: Model) -> None:
    """Over HTTP, at the standard's path, all of a look in one message."""
    with trace_collector() as collector:
        spans = Spans(model.words, exporter_to(collector.url), device="kiosk-7")
        model.run()
        spans.send()
        spans.send()  # nothing new: nothing is sent
        spans.close()
    assert [path for path, _ in collector.messages] == ["/v1/traces"]
    names = sorted(span.name for span in collector.spans())
    assert names == ["compute", "infer a/b", "input", "output", "queue"]


def test_nobody_at_the_collectors_address(model: Model) -> None:
    """A refused connection fails the sending, not the process."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    said: list[str] = []
    exporter = exporter_to(f"http://127.0.0.1:{port}/other")
    spans = Spans(model.words, exporter, device="kiosk-7", say=said.append)
    model.run()
    closing = threading.Timer(0.2, spans.close)  # ends the exporter's waits between its tries
    closing.start()
    spans.send()
    closing.join()
    assert len(said) == 1
