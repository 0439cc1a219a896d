"""Who on this device may ask the agent for what: roles, sockets with groups, tokens of apps.

Never answers a question itself: the doors ask here before they do.
"""

from device_agent.access.apps import App, AppTokens, own_token
from device_agent.access.guard import Guard
from device_agent.access.roles import ALLOWED, ROLES, Role, may_call
from device_agent.access.sockets import OWNER, Access, OwnSocket, access_of, remove_dead

__all__ = [
    "ALLOWED",
    "OWNER",
    "ROLES",
    "Access",
    "App",
    "AppTokens",
    "Guard",
    "OwnSocket",
    "Role",
    "access_of",
    "may_call",
    "own_token",
    "remove_dead",
]
