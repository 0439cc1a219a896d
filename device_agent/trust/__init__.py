"""What this device believes about what it should run: the one place that accepts an assignment.

The metadata that it takes its word from begin with the factory root and are verified anew at
each look; marks beside them remember what was seen. It is asked only before something is
installed, never on the way of a request, and decides nothing about what serves already.
"""

from device_agent.trust.assignment import AssignmentKeeper, accept
from device_agent.trust.factory import (
    ROOT_MISSING,
    keep_factory_root,
    open_gate,
    read_factory_root,
)

__all__ = [
    "ROOT_MISSING",
    "AssignmentKeeper",
    "accept",
    "keep_factory_root",
    "open_gate",
    "read_factory_root",
]
