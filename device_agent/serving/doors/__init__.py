"""How requests get in: one file per protocol. A door translates and decides nothing."""

from device_agent.serving.doors.fast_lane import FastLaneDoor
from device_agent.serving.doors.open_inference import InferenceDoor

__all__ = ["FastLaneDoor", "InferenceDoor"]
