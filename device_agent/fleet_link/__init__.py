"""The device's side of DeliveryService: protobuf ends here, values go further.

Never decides anything and keeps nothing; every call may raise UnavailableError and may be
made again.
"""

from device_agent.fleet_link.link import FleetLink
from device_agent.fleet_link.values import (
    Capabilities,
    CheckedIn,
    EngineCapability,
    ModelState,
    Note,
    PlanStep,
    Woken,
)

__all__ = [
    "Capabilities",
    "CheckedIn",
    "EngineCapability",
    "FleetLink",
    "ModelState",
    "Note",
    "PlanStep",
    "Woken",
]
