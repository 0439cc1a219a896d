"""The metrics process: a server for scrapes and a sender of spans, until it is told to end."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from device_agent.config import AgentConfig
from device_agent.metrics.needed import check_metrics
from edge_sdk.base import ConflictError

_NICE = 10  # whoever serves comes first
SEND_S = 1.0


def run_metrics(
    config: AgentConfig,
    page: memoryview,
    over: threading.Event,
    *,
    when_open: Callable[[str], None] = lambda address: None,
) -> None:
    """Until ``over`` is set. ``when_open`` hears at which address it is scraped from then on.

    Raises: RefusedError, ConflictError (address in use).
    """
    check_metrics(config)
    os.nice(_NICE)
    with ExitStack() as open_now:
        if config.metrics_address:
            open_now.enter_context(scraped(config.metrics_address, page))
            when_open(config.metrics_address)
        if config.otlp_endpoint:
            _send_spans(config, page, over)
        over.wait()


@contextmanager
def scraped(address: str, page: memoryview) -> Iterator[int]:
    """``/metrics`` at ``HOST:PORT``, while the block lasts; yields the port.

    Raises: ConflictError.
    """
    # Of the extra: imported where it is wanted.
    from prometheus_client import CollectorRegistry, start_http_server

    from device_agent.metrics.collector import PageCollector

    host, _, port = address.rpartition(":")
    registry = CollectorRegistry()
    registry.register(PageCollector(page))
    try:
        server, thread = start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise ConflictError(f"cannot serve metrics at {address}: {error.strerror}") from None
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _send_spans(config: AgentConfig, page: memoryview, over: threading.Event) -> None:
    """Until ``over`` is set, and once more."""
    from device_agent.metrics.spans import Spans, exporter_to

    # What fails is said once by Spans, not for each request to the collector.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL + 1)
    spans = Spans(page, exporter_to(config.otlp_endpoint), device=config.device)
    while not over.wait(SEND_S):
        spans.send()
    spans.send()
    spans.close()
