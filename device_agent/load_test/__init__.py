"""Loads a device's own agent as applications would, and says how it answered.

Each load runs in a process of its own. Nothing here knows what serves: it asks through
``edge_sdk.client`` alone.
"""

from device_agent.load_test.loads import Goal, Load, named_apart, parse_load, parse_scenario
from device_agent.load_test.report import html_report
from device_agent.load_test.run import Observe, Plan, Where, run_loads

__all__ = [
    "Goal",
    "Load",
    "Observe",
    "Plan",
    "Where",
    "html_report",
    "named_apart",
    "parse_load",
    "parse_scenario",
    "run_loads",
]
