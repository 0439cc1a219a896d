"""What was made, from what, how: the file ``report.json`` that stands beside a variant."""

from quantize.report.document import report_document
from quantize.report.machine import cpu_features

__all__ = ["cpu_features", "report_document"]
