"""Who on this device may ask the agent for what: roles, sockets with groups, tokens of apps.

Never answers a question itself: the doors ask here before they do.
"""

from device_agent.access.apps import App, AppTokens, own_token
from device_agent.access.guard import Guard, Streams
from device_agent.access.limits import LOCAL_LIMITS, SMALL
from device_agent.access.listening import listening, running_address
from device_agent.access.prompt import Prompt, Silent, prompt
from device_agent.access.roles import ALLOWED, ROLES, Role, may_call
from device_agent.access.sockets import OWNER, Access, OwnSocket, access_of, remove_dead
from device_agent.access.threads import DoorThreads

__all__ = [
    "ALLOWED",
    "LOCAL_LIMITS",
    "OWNER",
    "ROLES",
    "SMALL",
    "Access",
    "App",
    "AppTokens",
    "DoorThreads",
    "Guard",
    "OwnSocket",
    "Prompt",
    "Role",
    "Silent",
    "Streams",
    "access_of",
    "listening",
    "may_call",
    "own_token",
    "prompt",
    "remove_dead",
    "running_address",
]
