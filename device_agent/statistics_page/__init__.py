"""Counters of the inference process in memory that others read without asking it.

One page of shared memory, made by the supervisor: inference adds to it under its models'
locks, every other process only looks. What is counted outlives a restart of inference.
Nothing here knows models, engines, metrics or text formats.
"""

from device_agent.statistics_page.histogram import SHARES, Histogram
from device_agent.statistics_page.layout import PHASES
from device_agent.statistics_page.memory import create_page, open_page, private_page, watch_page
from device_agent.statistics_page.snapshot import ModelUse, PageSnapshot, PoolUse, State, read_page
from device_agent.statistics_page.traces import Outcome, Traced, TraceReader, TraceWriter
from device_agent.statistics_page.writer import Described, PageWriter, Row

__all__ = [
    "PHASES",
    "SHARES",
    "Described",
    "Histogram",
    "ModelUse",
    "Outcome",
    "PageSnapshot",
    "PageWriter",
    "PoolUse",
    "Row",
    "State",
    "TraceReader",
    "TraceWriter",
    "Traced",
    "create_page",
    "open_page",
    "private_page",
    "read_page",
    "watch_page",
]
