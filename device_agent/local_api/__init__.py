"""AgentService: what apps and technicians on this device may ask of the agent.

Its own address, a synchronous server; never touches the store itself.
"""

from device_agent.local_api.contract import AgentDoor
from device_agent.local_api.service import LocalApi

__all__ = ["AgentDoor", "LocalApi"]
