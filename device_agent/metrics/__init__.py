"""What others may collect of this device: Prometheus metrics and OpenTelemetry spans.

Runs in a process of its own, which only reads the statistics page: whatever a collector asks
for costs the inference process nothing. Both need extras of their own.
"""

from device_agent.metrics.needed import check_metrics
from device_agent.metrics.run import run_metrics

__all__ = ["check_metrics", "run_metrics"]
