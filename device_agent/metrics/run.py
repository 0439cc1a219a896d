"""The metrics process: an HTTP server for scrapes, until it is told to end."""

from __future__ import annotations

import os
import threading

from device_agent.config import AgentConfig
from device_agent.metrics.needed import check_metrics
from edge_sdk.base import ConflictError

_NICE = 10  # whoever serves comes first


def run_metrics(config: AgentConfig, page: memoryview, over: threading.Event) -> None:
    """Until ``over`` is set. Raises: RefusedError, ConflictError (address in use)."""
    check_metrics(config)
    os.nice(_NICE)
    server = Scraped(config.metrics_address, page) if config.metrics_address else None
    try:
        over.wait()
    finally:
        if server is not None:
            server.close()


class Scraped:
    """``/metrics`` at ``HOST:PORT``, from its making to ``close``."""

    def __init__(self, address: str, page: memoryview) -> None:
        """Raises: ConflictError."""
        # Of the extra: imported where it is wanted.
        from prometheus_client import CollectorRegistry, start_http_server

        from device_agent.metrics.collector import PageCollector

        host, _, port = address.rpartition(":")
        registry = CollectorRegistry()
        registry.register(PageCollector(page))
        try:
            self._server, self._thread = start_http_server(int(port), host.strip("[]"), registry)
        except OSError as error:
            raise ConflictError(f"cannot serve metrics at {address}: {error.strerror}") from None
        self.port = int(self._server.server_port)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
