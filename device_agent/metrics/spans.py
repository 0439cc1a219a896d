"""Traced requests of the statistics page as OpenTelemetry spans, sent to a collector."""

from __future__ import annotations

import sys
from collections.abc import Callable
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from device_agent.statistics_page import ModelUse, Outcome, Traced, TraceReader
from device_agent.statistics_page.layout import PHASES
from device_agent.statistics_page.snapshot import read_row

_TRACES_PATH = "/v1/traces"
_EXPORT_S = 3.0  # the process ends within the supervisor's patience even where nobody answers


def exporter_to(endpoint: str) -> SpanExporter:
    """``endpoint`` without a path gets the standard's; headers and certificates come from the
    variables ``OTEL_EXPORTER_OTLP_*`` of the standard."""
    if urlsplit(endpoint).path in ("", "/"):
        endpoint = endpoint.rstrip("/") + _TRACES_PATH
    return OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_S)


class Spans:
    """Sends what came since the last ``send``; what cannot be sent is dropped, and said once."""

    def __init__(
        self,
        page: memoryview,
        exporter: SpanExporter,
        *,
        device: str,
        say: Callable[[str], object] = sys.stderr.write,
    ) -> None:
        self._page = page
        self._reader = TraceReader(page)
        self._exporter = exporter
        self._say = say
        self._ended = _Ended()
        resource = Resource.create({"service.name": "edge-agent", "service.instance.id": device})
        provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(self._ended)
        self._tracer: Tracer = provider.get_tracer("device_agent.metrics")  # type: ignore[assignment]
        self._sends = True

    def send(self) -> int:
        """How many requests were among what was sent."""
        traced = self._reader.read()
        models = {row: read_row(self._page, row) for row in {one.row for one in traced}}
        for one in traced:
            model = models[one.row]
            if model is not None:
                self._make(one, model)
        spans = self._ended.take()
        if spans:
            self._tell(self._exporter.export(spans) is SpanExportResult.SUCCESS)
        return len(traced)

    def close(self) -> None:
        self._exporter.shutdown()

    def _make(self, one: Traced, model: ModelUse) -> None:
        begin_ns = one.end_ns - sum(one.times_ns)
        root = self._tracer.start_span(
            f"infer {model.model}",
            context=_caller(one),
            kind=SpanKind.SERVER,
            start_time=begin_ns,
            attributes={
                "edge.model": model.model,
                "edge.version": model.version,
                "edge.artifact": model.artifact,
                "edge.engine": model.engine,
                "edge.outcome": one.outcome.name.lower(),
                "edge.batch_size": one.batch_size,
            },
        )
        if one.outcome is Outcome.RAN:
            self._make_phases(one, root, begin_ns)
        if one.outcome is Outcome.FAILED:
            root.set_status(Status(StatusCode.ERROR))
        root.end(one.end_ns)

    def _make_phases(self, one: Traced, root: Span, begin_ns: int) -> None:
        inside = set_span_in_context(root, Context())
        for name, time_ns in zip(PHASES, one.times_ns, strict=False):
            phase = self._tracer.start_span(name, context=inside, start_time=begin_ns)
            begin_ns += time_ns
            phase.end(begin_ns)

    def _tell(self, sent: bool) -> None:
        if sent != self._sends:
            self._sends = sent
            how = "arrive again" if sent else "do not arrive at the collector; they are dropped"
            self._say(f"edge-agent metrics: traces {how}\n")


class _Ended(SpanProcessor):
    """Keeps ended spans until they are taken: one request to the collector for all."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self._spans.append(span)

    def take(self) -> list[ReadableSpan]:
        spans, self._spans = self._spans, []
        return spans


def _caller(one: Traced) -> Context:
    """The caller's span as parent; none where the request is the first of its trace."""
    if not one.trace:
        return Context()
    span = SpanContext(
        trace_id=one.trace,
        span_id=one.caller,
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
    return set_span_in_context(NonRecordingSpan(span), Context())
