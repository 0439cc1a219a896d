"""What the settings ask for needs packages that the agent alone does without."""

from __future__ import annotations

import importlib.util

from device_agent.config import AgentConfig
from edge_sdk.base import RefusedError


def check_metrics(config: AgentConfig) -> None:
    """Raises: RefusedError (a package is missing)."""
    if config.metrics_address:
        _need("prometheus_client", "metrics_address", "metrics")
    if config.otlp_endpoint:
        _need("opentelemetry.exporter.otlp.proto.http", "otlp_endpoint", "otel")


def _need(package: str, setting: str, extra: str) -> None:
    try:
        found = importlib.util.find_spec(package)
    except ModuleNotFoundError:  # one of those that it lies in
        found = None
    if found is None:
        raise RefusedError(
            f"{setting} needs a package that is not installed: pip install "
            f"'edge-model-sdk[{extra}]', or leave the setting out"
        )
