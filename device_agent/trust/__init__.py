"""What this device believes about what it should run: the one place that accepts an assignment.

Signatures are checked here once keys exist; until then: the right device, never backwards,
never below a floor. Never fetches anything.
"""

from device_agent.trust.assignment import AssignmentKeeper, accept

__all__ = ["AssignmentKeeper", "accept"]
